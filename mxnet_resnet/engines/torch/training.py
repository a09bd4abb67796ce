"""A plan as a net that PyTorch trains: the graph to save, what to keep in memory, its first weights."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines import initial
from mxnet_resnet.engines.base import Group, TrainingSpec
from mxnet_resnet.engines.graphs import emission
from mxnet_resnet.engines.torch import compilation, memory, models, nets, precision
from mxnet_resnet.engines.torch.group import count_workers
from mxnet_resnet.engines.torch.session import TorchSession
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.checkpoint import Snapshot

EXECUTION = 2  # to be raised where a step is computed otherwise, so that a resumed run says that it is not to the bit


class TrainingModel:
    """A net that is to be trained (base.Model)."""

    def __init__(self, plan: Architecture, spec: TrainingSpec, device: torch.device):
        precision.check_dtype(spec.dtype, device)
        self.plan, self.spec, self.device = plan, spec, device
        self._emitted = emission.emit_training(
            plan,
            spec.classes,
            image_shape=spec.image_shape,
            bn_momentum=spec.bn_momentum,
            zero_init_residual=spec.zero_init_residual,
            workspace=spec.workspace,
            smoothing=0.0 if spec.soft_labels else spec.label_smoothing,  # soft labels are smooth already
        )
        self.graph = self._emitted.to_text()
        self.shapes = self._emitted.noted_shapes
        self.net = nets.build(plan, spec.classes, bn_momentum=spec.bn_momentum)
        self.parameters = models.count_parameters(self.net)
        chosen = compilation.choose(plan, spec, device, count_workers())
        self._compilation, self._uncompiled = (None, chosen) if isinstance(chosen, str) else (chosen, "")
        self.traits = {"graph": EXECUTION, **_identify_gpu(device, spec)}
        if self._compilation:
            self.traits["compiled"] = str(self._compilation)
        self._mirroring: memory.Mirroring | None = None

    def prepare(self) -> list[str]:
        notes = [self._uncompiled] if self._uncompiled else []
        if self.device.type == "cuda" and not self.spec.deterministic:
            notes.append("A GPU sums in no fixed order: with --deterministic a resumed run is the same to the bit")
        if self.spec.memonger:
            with self._explaining_shortage():
                net = nets.build(self.plan, self.spec.classes).to(self.device)
                self._mirroring = memory.plan(net, self.spec, self.device)
            notes.append(str(self._mirroring))
        return notes

    def start(self, group: Group, snapshot: Snapshot | None, step: int) -> TorchSession:
        if snapshot is None:
            params, statistics = initial.draw(self._emitted, self.shapes, self.spec.seed)
            snapshot = Snapshot(params, statistics)
        arrays = (snapshot.params, snapshot.statistics, snapshot.momentum)
        if not group.all_same(checkpoint.digest(*arrays)):
            raise UserError(
                "the workers do not start from the same weights: all need the same flags, and checkpoints in a folder "
                "that all machines share"
            )
        nets.fill(self.net, {**snapshot.params, **snapshot.statistics})
        if self._mirroring:
            self._mirroring.apply(self.net)
        with self._explaining_shortage():
            return TorchSession(self.net, self.spec, self.device, group, snapshot, self._compilation)

    def _explaining_shortage(self) -> AbstractContextManager[None]:
        return memory.explaining_shortage(self.device, "the net", lambda: "a smaller one or another GPU is needed")


def _identify_gpu(device: torch.device, spec: TrainingSpec) -> dict[str, object]:
    """What the rounding on a GPU follows from besides."""
    if device.type != "cuda":
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "deterministic": spec.deterministic}
