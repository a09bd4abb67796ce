"""A net in training on PyTorch: its weights on a device, its optimizer, and the figures of its batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.torch import capture, compilation, feeds, figures, memory, nets, precision
from mxnet_resnet.engines.torch.compilation import Compilation
from mxnet_resnet.engines.torch.figures import PendingFigures, Rows
from mxnet_resnet.engines.torch.group import ProcessGroup
from mxnet_resnet.engines.torch.layers import BatchNorm
from mxnet_resnet.engines.torch.optimizer import MOMENTUM, Momentum, group_by_decay
from mxnet_resnet.engines.torch.resident import SHARE, DataSets, Places
from mxnet_resnet.engines.torch.step import compute_scores, compute_step
from mxnet_resnet.engines.torch.team import Launcher
from mxnet_resnet.runs.checkpoint import Arrays, Snapshot
from mxnet_resnet.runs.graph import STATISTICS

IN_FLIGHT = {"cpu": 2, "cuda": 1024}  # a GPU does not wait for figures that nobody reads yet
REHEARSALS = 3  # steps, in which kernels are chosen and compiled


class TorchSession:
    """A net in training (base.Session), which begins with the weights of ``net`` and the momentum of a snapshot.

    Attributes:
        captures: whether a step is repeated by the GPU itself, as a CUDA graph.
        stream: on which a GPU does it then.
        feed: where the images and labels of the step are.
        noted: the figures of a step that is to be launched, or None.
        activations: bytes that a step keeps on a GPU, known after `rehearse`.
    """

    def __init__(
        self,
        net: nn.Module,
        spec: TrainingSpec,
        device: torch.device,
        group: ProcessGroup,
        snapshot: Snapshot,
        compiled: Compilation | None = None,
    ):
        self.spec, self.device, self.group = spec, device, group
        precision.choose_algorithms(device, spec.deterministic)
        net.to(device, memory_format=torch.channels_last).train()
        self.net, tensors = net, nets.name_tensors(net)
        self._weights = {name: one for name, one in tensors.items() if not name.endswith(STATISTICS)}
        self._statistics = {name: one for name, one in tensors.items() if name.endswith(STATISTICS)}
        norms = [layer for layer in net.modules() if isinstance(layer, BatchNorm)]
        self._fixed = [norm.weight for norm in norms if norm.fix_gamma]
        for norm in norms:
            norm.num_batches_tracked = None  # nobody asks, and it is a kernel each
        self._draws = any(isinstance(layer, nn.Dropout) and layer.p for layer in net.modules())
        self._prepare_gradients()
        self.optimizer = Momentum(group_by_decay(self._weights, spec), spec.momentum, spec.optimizer == "nag")
        self._write_momentum(snapshot.momentum)
        self.scaler = precision.make_scaler(device, snapshot.loss_scale) if spec.dtype == "float16" else None
        self._compute_step = compute_step
        if compiled and compiled.whole:
            self._compute_step = compilation.compile_function(compute_step, compiled.mode)
        elif compiled:
            net.runs = compilation.compile_units(net.units, compiled.mode)
        self._parallel = group.spread(net, device)  # once all its weights are as they are to be
        host_decides = bool(self.scaler) or self._draws or spec.memonger or not group.alone
        self.captures = device.type == "cuda" and not host_decides
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.in_flight = IN_FLIGHT[device.type]
        self.data_sets = DataSets(device, _find_most(device))
        self._feeds: dict[object, feeds.Feed] = {}
        self._validation: tuple[feeds.Feed, capture.Work] | None = None
        self.noted: PendingFigures | None = None
        self._rows = Rows()
        self._launcher: Launcher | None = Launcher()
        self.activations = 0
        if self.captures or compiled:
            self._rehearse_blank(compiled)

    def read(self, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Any] | None:
        return self.data_sets.read(records, epoch, skip) if self.captures else None

    def read_validation(self, records: ValidationRecords) -> Iterator[Any] | None:
        return self.data_sets.read_validation(records) if self.captures else None

    def join(self, data_sets: DataSets) -> None:
        """Note steps from now on, for others to launch, and share their data sets."""
        self._launcher, self.data_sets = None, data_sets

    def step(self, batch: Batch | Places, number: int) -> PendingFigures:
        spec = self.spec
        if self._draws:  # what is dropped is a function of the step, like all else that is drawn
            place = [spec.seed, number, self.group.rank]
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        self.optimizer.set_rate(spec.schedule(number))
        self.feed = self._load(batch)
        self.noted = figures_of_step = PendingFigures()
        if self._launcher:
            self._launcher.launch([self])
        return figures_of_step

    def compute(self) -> None:
        """Forward, backward, update, all on the device: this is what a CUDA graph repeats."""
        if not self.net.training:
            self.net.train()
        self._drop_gradients()  # of a step that was broken off
        images, labels = self.feed.take()
        loss, self._sums = self._compute_step(
            self._parallel, images, labels, self.spec.dtype, 0.0 if labels.ndim == 2 else self.spec.label_smoothing
        )
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        self.group.average(list(self._statistics.values()))  # a run that resumes has no more than these means
        self._images, self._updated = len(images), self._update()

    def settle(self) -> None:
        """Say where the figures of the noted step are, which was launched."""
        assert self.noted is not None
        if self._rows.full:
            self._rows = Rows()
        self.noted.fill(self._rows.note(self._sums), self._images, updated=self._updated)
        self.noted = None

    def validate(self, batch: Batch | Places) -> PendingFigures:
        feed, count = self._load(batch), batch.count
        with torch.no_grad(), self.explaining_shortage():
            if self.captures:
                self._find_validation(feed)()
            else:
                self._measure(feed)
        found = PendingFigures()
        found.fill(self._measured[:count].sum(dim=0).tolist, count, self._best[:count].clone())
        return found

    def snapshot(self) -> Snapshot:
        scale = precision.read_scale(self.scaler) if self.scaler else None
        return Snapshot(_to_numpy(self._weights), _to_numpy(self._statistics), _to_numpy(self._momenta), scale)

    def rehearse(self, steps: int) -> None:
        """Compute steps on what the feed holds, and take them back, so that all kernels are chosen and compiled."""
        changing = [*self.net.parameters(), *self.net.buffers(), *self._momenta.values()]
        kept, scale = [tensor.detach().clone() for tensor in changing], self.scaler and self.scaler.state_dict()
        with capture.beside(self.stream):
            for _ in range(steps):
                self.compute()
        with torch.no_grad():
            torch._foreach_copy_(changing, kept)
        if self.scaler:
            self.scaler.load_state_dict(scale)

    def _rehearse_blank(self, compiled: Compilation | None) -> None:
        """Rehearse on images of nothing; note what a step keeps in memory, and how long compiling took."""
        spec, on_gpu = self.spec, self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if on_gpu else 0
        started = time.perf_counter()
        explaining_failures = compilation.explaining_failures() if compiled else nullcontext()
        with self.explaining_shortage(), explaining_failures:
            self.feed = self._make_blank(spec.batch_size)
            self.rehearse(REHEARSALS - 1)
            if on_gpu:  # choosing takes more than what is chosen
                torch.cuda.reset_peak_memory_stats(self.device)
            self.rehearse(1)
            del self.feed
        if on_gpu:
            self.activations = torch.cuda.max_memory_allocated(self.device) - before
        seconds = time.perf_counter() - started
        if compiled and seconds > 1:  # else it was compiled for another seed
            logging.info("Compiled %s in %.1f s", compiled, seconds)

    def _load(self, batch: Batch | Places) -> feeds.Feed:
        """The feed for such batches, with this one in it."""
        key = feeds.describe(batch)
        if key not in self._feeds:
            self._feeds[key] = feeds.make(batch, self.device)
        self._feeds[key].load(batch)
        return self._feeds[key]

    def _make_blank(self, count: int) -> feeds.Feed:
        """A feed of ``count`` images of nothing."""
        labels = np.zeros((count, self.spec.classes) if self.spec.soft_labels else count, np.float32)
        return feeds.make(Batch(np.zeros((count, *self.spec.image_shape), np.float32), labels, count), self.device)

    def _find_validation(self, feed: feeds.Feed) -> capture.Work:
        """The graph of a validation batch of a feed; the one before it goes."""
        if self._validation is None or self._validation[0] is not feed:
            self._validation = None
            with capture.beside(self.stream):
                self._measure(feed)
            self._validation = feed, capture.capture([partial(self._measure, feed)], [self.stream], self.device)
        return self._validation[1]

    def _measure(self, feed: feeds.Feed) -> None:
        """Forward alone, and what is counted of each image."""
        if self.net.training:
            self.net.eval()
        images, labels = feed.take()
        self._measured, self._best = figures.measure(compute_scores(self.net, images, self.spec.dtype), labels)

    def explaining_shortage(self) -> AbstractContextManager[None]:
        """Within it a shortage of memory is UserError, with the batch that fits."""
        workers = self.group.local_count
        what = f"--batch-size {self.spec.batch_size * workers}"
        advise = partial(memory.advise_training, self._try_gradients, self.spec.batch_size, workers)
        return memory.explaining_shortage(self.device, what, advise)

    @torch.enable_grad()  # in validation too
    def _try_gradients(self, count: int) -> None:
        """Compute what a step of ``count`` images keeps in memory, without the other workers and what joins them."""
        if not self.spec.memonger:
            self.net.runs = ()  # not compiled: that would be done again for each count
        images, labels = self._make_blank(count).take()
        loss, _ = compute_step(self.net, images, labels, self.spec.dtype, 0.0)
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
        self._drop_gradients()
        return updated

    def _drop_gradients(self) -> None:
        for weight in self._weights.values():
            if weight.requires_grad:
                weight.grad = None

    @property
    def _momenta(self) -> dict[str, torch.Tensor]:
        state = self.optimizer.state
        weights = self._weights.items() if self.spec.momentum else ()
        return {f"{MOMENTUM}:{name}": state[weight][MOMENTUM] for name, weight in weights}

    def _write_momentum(self, arrays: Arrays) -> None:
        for name, momentum in self._momenta.items():
            if name in arrays:
                momentum.copy_(torch.from_numpy(arrays[name]))


def _to_numpy(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: tensor.detach().cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}


def _find_most(device: torch.device) -> int:
    """The bytes that a data set on a device may take."""
    return torch.cuda.get_device_properties(device).total_memory // SHARE if device.type == "cuda" else 2**30
