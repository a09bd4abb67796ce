"""Memory mirroring by PyTorch's own checkpointing of activations, and what to do where a GPU has too little memory.

After Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.torch import devices, precision
from mxnet_resnet.engines.torch.layers import BatchNorm

MB = 2**20
TRIAL = 2  # images that are measured: the fewest that every BatchNorm can do with

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Mirroring:
    """Which units of a net are computed again in the backward pass: the first ``segments`` times ``length``.

    Attributes:
        length: units that are computed again together, from the input of the first of them.
        segments: how many such runs of units there are; the units behind them are kept.
        units: those of the net.
        kept, whole: MB of activations with it, and without it.
    """

    length: int
    segments: int
    units: int
    kept: float
    whole: float

    def __str__(self) -> str:
        again = min(self.length * self.segments, self.units) / self.units
        return (
            f"Planned activation memory: {self.kept:.0f} MB a device, {self.kept / self.whole:.0%} of "
            f"{self.whole:.0f} MB; expected extra time: {100 * again / 3:.0f}% a step"
        )

    def apply(self, net: nn.Module) -> None:
        """Let a net run its units so."""
        units = list(net.units)
        begins = [self.length * number for number in range(self.segments)]
        runs = [mirrored(units[begin : begin + self.length]) for begin in begins]
        net.runs = (*runs, *units[self.length * self.segments :])


def mirrored(units: Sequence[nn.Module]) -> Run:
    """What runs some units and forgets what is inside, which it computes again in the backward pass."""
    norms = [layer for unit in units for layer in unit.modules() if isinstance(layer, BatchNorm)]

    def run(x: torch.Tensor) -> torch.Tensor:
        for unit in units:
            x = unit(x)
        return x

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), untracked(norms)

    def run_again(x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return run(x)
        return checkpoint(run, x, use_reentrant=False, context_fn=contexts)

    return run_again


@contextmanager
def untracked(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Within it a forward pass leaves the running statistics alone: they are a step further already."""
    for norm in norms:
        norm.tracks = False
    try:
        yield
    finally:
        for norm in norms:
            norm.tracks = True


def plan(net: nn.Module, spec: TrainingSpec, device: torch.device) -> Mirroring:
    """The least memory, or within ``spec.memonger_budget`` MB the fewest units that are computed again.

    Raises UserError where the budget is too small.
    """
    inputs, insides, rest = _measure(net, spec, device)
    whole = rest + sum(insides) + sum(inputs)
    count = len(insides)
    choices = []
    for length in range(1, count + 1):
        for segments in range(-(-count // length) + 1):
            again = min(length * segments, count)
            begins = range(0, again, length)
            heaviest = max((sum(insides[begin : begin + length]) for begin in begins), default=0.0)
            inner = sum(sum(inputs[begin + 1 : begin + length]) for begin in begins)
            kept = rest + sum(inputs) - inner + sum(insides[again:]) + heaviest
            choices.append(Mirroring(length, segments, count, kept, whole))
    least = min(choices, key=lambda choice: choice.kept)
    if spec.memonger_budget is None:
        return least
    fitting = [choice for choice in choices if choice.kept <= spec.memonger_budget]
    if not fitting:
        raise UserError(
            f"no plan keeps the activations within {spec.memonger_budget} MB: the least found is {least.kept:.0f} MB"
        )
    return min(fitting, key=lambda choice: (min(choice.length * choice.segments, count), choice.kept))


def _measure(net: nn.Module, spec: TrainingSpec, device: torch.device) -> tuple[list[float], list[float], float]:
    """MB that a batch keeps for the backward pass: the input of each unit, the inside of each, and all else."""
    sizes: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # lest an address is used again
    marks: list[int] = []
    entries: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if len(tensor) == TRIAL:  # what is of the images; weights, and what they are cast to, do not grow with these
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    def enter(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        entries.append(given[0].numel() * given[0].element_size())
        note(given[0])
        marks.append(sum(sizes.values()))

    hooks = [unit.register_forward_pre_hook(enter) for unit in net.units]
    images = torch.zeros(TRIAL, *spec.image_shape, device=device)
    norms = [layer for layer in net.modules() if isinstance(layer, BatchNorm)]
    net.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), untracked(norms):
        with precision.computing(device, spec.dtype):
            last = net.features(images)
        note(last)
        ends = [*marks[1:], sum(sizes.values())]
    for hook in hooks:
        hook.remove()
    factor = spec.batch_size / TRIAL / MB
    inputs = [size * factor for size in entries]
    insides = [(end - begin) * factor for begin, end in zip(marks, ends)]
    following = [*inputs[1:], 0.0]  # the input of the next unit is noted in this one
    insides = [inside - after for inside, after in zip(insides, following)]
    return inputs, insides, marks[0] * factor - inputs[0]


@contextmanager
def explaining_shortage(device: torch.device, what: str, advise: Callable[[], str]) -> Iterator[None]:
    """Raise UserError where a GPU has too little memory for ``what``; ``advise`` then finds what to do about it."""
    try:
        yield
        return
    except torch.OutOfMemoryError:
        pass  # what was kept is free when the exception is
    raise UserError(f"{devices.describe_memory(device)}, too little for {what}: {advise()}")


def advise_training(compute: Callable[[int], object], images: int, workers: int) -> str:
    """What batch of so many workers would fit, by trying less than ``images`` with what computes gradients of some."""
    smaller = _find_fitting(compute, images) * workers
    fitting = f"--batch-size {smaller} fits" if smaller else "not one image fits"
    return f"{fitting}; --memonger and --dtype bfloat16 take less"


def _find_fitting(compute: Callable[[int], object], images: int) -> int:
    """The largest power of two below a number of images that fits into memory, or 0."""
    size = 1 << (images - 1).bit_length() - 1 if images > 1 else 0
    while size:
        gc.collect()
        torch.cuda.empty_cache()
        try:
            compute(size)
            return size
        except torch.OutOfMemoryError:
            size //= 2
    return 0
