"""A net in training on PyTorch: its weights on a device, its optimizer, and the figures of its batches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mxnet_resnet.data import targets
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.torch import memory, nets, precision
from mxnet_resnet.engines.torch.group import ProcessGroup
from mxnet_resnet.engines.torch.layers import BatchNorm
from mxnet_resnet.engines.torch.optimizer import MOMENTUM, Momentum
from mxnet_resnet.runs.checkpoint import Arrays, Snapshot
from mxnet_resnet.runs.graph import STATISTICS
from mxnet_resnet.runs.meters import Figures, counts_top5

EPSILON = 1e-12  # as in MXNet's own CrossEntropy
DECAYED = {"weights": ("_weight",), "gammas": ("_weight", "_gamma"), "all": ("",)}  # how the names of these end


class PendingFigures:
    """The figures of a batch that the device computes meanwhile (base.Pending).

    ``sums`` are of the correct ones, of those among the best five where that is counted, and of the losses; ``best`` is
    the best class of each image (N,).
    """

    def __init__(self, sums: torch.Tensor, images: int, best: torch.Tensor | None):
        self.updated = True
        self._sums, self._images, self._best = sums, images, best

    def result(self) -> Figures:
        correct, *top5, loss = self._sums.tolist()
        classes = None if self._best is None else self._best.cpu().numpy()
        return Figures(self._images, correct, top5[0] if top5 else None, loss, classes)


class TorchSession:
    """A net in training (base.Session), which begins with the weights of ``net`` and the momentum of a snapshot."""

    def __init__(
        self, net: nn.Module, spec: TrainingSpec, device: torch.device, group: ProcessGroup, snapshot: Snapshot
    ):
        self.spec, self.device, self.group = spec, device, group
        if spec.deterministic:
            use_deterministic_algorithms()
        net.to(device, memory_format=torch.channels_last).train()
        self.net, tensors = net, nets.name_tensors(net)
        self._weights = {name: one for name, one in tensors.items() if not name.endswith(STATISTICS)}
        self._statistics = {name: one for name, one in tensors.items() if name.endswith(STATISTICS)}
        self._fixed = [norm.weight for norm in net.modules() if isinstance(norm, BatchNorm) and norm.fix_gamma]
        self._draws = any(isinstance(layer, nn.Dropout) and layer.p for layer in net.modules())
        self._prepare_gradients()
        self.optimizer = Momentum(_group_by_decay(self._weights, spec), spec.momentum, spec.optimizer == "nag")
        self._write_momentum(snapshot.momentum)
        self.scaler = precision.make_scaler(device, snapshot.loss_scale) if spec.dtype == "float16" else None
        self._parallel = group.spread(net, device)  # once all its weights are as they are to be

    in_flight = 2

    def read(self, records: object, epoch: int, skip: int) -> None:
        return None

    def read_validation(self, records: object) -> None:
        return None

    def step(self, batch: Batch, number: int) -> PendingFigures:
        spec = self.spec
        if self._draws:  # what is dropped is a function of the step, like all else that is drawn
            place = [spec.seed, number, self.group.rank]
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        self.optimizer.set_rate(spec.schedule(number))
        self.net.train()
        with self._explaining_shortage(batch):
            scores = self.go_forward(batch, self._parallel)
            self.compute_loss(scores, batch).backward()
            self.group.average(list(self._statistics.values()))  # a run that resumes has no more than these means
            updated = self._update()
        figures = sum_up(scores.detach(), self._to_device(batch.labels), spec.classes, of_training=True)
        figures.updated = updated
        return figures

    def go_forward(self, batch: Batch, net: nn.Module) -> torch.Tensor:
        """The scores (N, classes), float32, of a batch, by the net or what spreads it over workers."""
        images = self._to_device(batch.images).contiguous(memory_format=torch.channels_last)
        with precision.computing(self.device, self.spec.dtype):
            return net(images).float()

    def compute_loss(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean cross-entropy of a batch, scaled in float16."""
        labels, spec = batch.labels, self.spec
        if labels.ndim == 1 and spec.label_smoothing:
            labels = targets.distributions(labels, spec.classes, spec.label_smoothing)
        wanted = self._to_device(labels)
        loss = functional.cross_entropy(scores, wanted if labels.ndim == 2 else wanted.long())
        return self.scaler.scale(loss) if self.scaler else loss

    def validate(self, batch: Batch) -> PendingFigures:
        self.net.eval()
        with torch.no_grad(), self._explaining_shortage(batch):
            scores = self.go_forward(batch, self.net)
        return sum_up(scores[: batch.count], self._to_device(batch.labels[: batch.count]), self.spec.classes)

    def snapshot(self) -> Snapshot:
        scale = precision.read_scale(self.scaler) if self.scaler else None
        momentum = {
            f"{MOMENTUM}:{name}": self.optimizer.state[weight][MOMENTUM]
            for name, weight in self._weights.items()
            if MOMENTUM in self.optimizer.state[weight]
        }
        return Snapshot(_to_numpy(self._weights), _to_numpy(self._statistics), _to_numpy(momentum), scale)

    def _explaining_shortage(self, batch: Batch) -> AbstractContextManager[None]:
        what = f"--batch-size {len(batch.images) * self.group.local_count}"
        advise = partial(memory.advise_training, self._try_gradients, batch, self.group.local_count)
        return memory.explaining_shortage(self.device, what, advise)

    @torch.enable_grad()  # in validation too
    def _try_gradients(self, batch: Batch) -> None:
        """Compute what a step keeps in memory, without the other workers and what joins them."""
        loss = self.compute_loss(self.go_forward(batch, self.net), batch)
        torch.autograd.grad(loss, [weight for weight in self._weights.values() if weight.requires_grad])

    def _prepare_gradients(self) -> None:
        """Let all weights have gradients; that of a gamma which counts as 1 is 0, so that it decays as on MXNet."""
        for weight in self._weights.values():
            weight.requires_grad_(True)
        for gamma in self._fixed:
            gamma.requires_grad_(False)
            gamma.grad = torch.zeros_like(gamma)

    def _update(self) -> bool:
        """Update the weights; whether their gradients were finite, and used."""
        for gamma in self._fixed:
            gamma.fill_(1)  # MXNet writes it in each forward pass
        if self.scaler is None:
            updated = self.optimizer.step()
        else:
            updated = bool(self.scaler.step(self.optimizer))
            self.scaler.update()
        for weight in self._weights.values():
            if weight.requires_grad:
                weight.grad = None
        return updated

    def _write_momentum(self, arrays: Arrays) -> None:
        for name, weight in self._weights.items():
            if f"{MOMENTUM}:{name}" in arrays and self.spec.momentum:
                self.optimizer.state[weight][MOMENTUM].copy_(torch.from_numpy(arrays[f"{MOMENTUM}:{name}"]))

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _group_by_decay(weights: Mapping[str, nn.Parameter], spec: TrainingSpec) -> list[dict]:
    """The weights with those that decay apart."""
    decayed = [weight for name, weight in weights.items() if name.endswith(DECAYED[spec.decayed])]
    others = [weight for name, weight in weights.items() if not name.endswith(DECAYED[spec.decayed])]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others}]
    return [group for group in groups if group["params"]]


def _to_numpy(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: tensor.detach().cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}


def use_deterministic_algorithms() -> None:
    """Let a GPU sum in a fixed order; cuBLAS reads the variable when it is first called."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def sum_up(scores: torch.Tensor, labels: torch.Tensor, classes: int, of_training: bool = False) -> PendingFigures:
    """The figures of a batch: scores (N, classes), and labels (N,) or the distributions trained towards."""
    logarithms = (scores.softmax(dim=1) + EPSILON).log()
    if labels.ndim == 2:
        losses, labels = -(labels * logarithms).sum(), labels.argmax(dim=1)
    else:
        labels = labels.long()
        losses = -logarithms.gather(1, labels[:, None]).sum()
    best = scores.argmax(dim=1)
    figures = [(best == labels).sum()]
    if counts_top5(classes):
        figures.append((scores.topk(5, dim=1).indices == labels[:, None]).sum())
    sums = torch.stack([*(figure.double() for figure in figures), losses.double()])
    return PendingFigures(sums, len(scores), None if of_training else best)
