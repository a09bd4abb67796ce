"""A plan as a net that MXNet trains: the graph to save, the graph to execute, what to keep in memory."""

from __future__ import annotations

import os
from functools import cached_property

import mxnet as mx

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import Devices, TrainingSpec
from mxnet_resnet.engines.mxnet import devices as dealing
from mxnet_resnet.engines.mxnet import models, precision, symbols
from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.engines.mxnet.memory import memonger
from mxnet_resnet.engines.mxnet.ndarrays import to_numpy
from mxnet_resnet.engines.mxnet.session import ModuleSession, bind, input_shapes
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.checkpoint import Snapshot


class TrainingModel:
    """A net that is to be trained (base.Model)."""

    def __init__(self, plan: Architecture, spec: TrainingSpec, devices: Devices):
        precision.check_dtype(spec.dtype, list(devices.handles))
        if spec.deterministic:  # cuDNN's algorithms are chosen when they are first called
            os.environ["MXNET_ENFORCE_DETERMINISM"] = "1"
        self.spec, self.contexts = spec, list(devices.handles)
        self.images_a_device = max(dealing.shares(spec.batch_size, len(devices)))
        self.net = models.from_architecture(
            plan, spec.classes, spec.bn_momentum, zero_init_residual=spec.zero_init_residual
        )
        # Soft labels are smooth already.
        smoothing = 0.0 if spec.soft_labels else spec.label_smoothing
        self.symbol = symbols.softmax(self.net, spec.workspace, spec.image_shape, smoothing)
        self.graph = self.symbol.tojson()
        self.parameters = models.count_parameters(self.net)
        self.traits = {"graph": execution.VERSION}
        self.memory_plan: memonger.Plan | None = None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of its parameters and statistics, by name."""
        arguments, _, statistics = self.symbol.infer_shape(data=(1, *self.spec.image_shape))
        found = dict(zip(self.symbol.list_arguments(), arguments))
        inputs = input_shapes(self.symbol, self.spec, 1)
        parameters = {name: shape for name, shape in found.items() if name not in inputs}
        return {**parameters, **dict(zip(self.symbol.list_auxiliary_states(), statistics))}

    @cached_property
    def executed(self) -> mx.sym.Symbol:
        """The graph to execute, with the arguments and states of the one to save."""
        spec = self.spec
        scaled = spec.dtype == "float16"  # whose gradients are scaled from step to step
        symbol = symbols.without_loss(self.net, spec.workspace) if scaled else self.symbol
        if self.contexts[0].device_type == "cpu":
            # A plan of memory chooses between a BatchNorm and its ReLU.
            symbol = execution.for_cpu(symbol, fuse=not spec.memonger, pad_images=spec.dtype == "bfloat16")
        return precision.lower(symbol, spec.dtype)

    def prepare(self) -> list[str]:
        if not self.spec.memonger:
            return []
        shapes = input_shapes(self.executed, self.spec, self.images_a_device)
        self.memory_plan = memonger.plan(self.executed, shapes, self.spec.memonger_budget)
        return [str(self.memory_plan)]

    def start(self, group: KVStoreGroup, snapshot: Snapshot | None, step: int) -> ModuleSession:
        module = bind(self.executed, self.spec, self.contexts, snapshot, self.memory_plan)
        if not group.alone:
            weights = map(to_numpy, module.get_params())
            if not group.all_same(checkpoint.digest(*weights, snapshot.momentum if snapshot else {})):
                raise UserError(
                    "the workers do not start from the same weights: all need the same flags, and checkpoints in a "
                    "folder that all machines share"
                )
        return ModuleSession(module, self.spec, group, snapshot, step)
