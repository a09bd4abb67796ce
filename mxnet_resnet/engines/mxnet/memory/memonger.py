"""Less activation memory in training, for more time: Chen et al., arXiv 1604.06174, on MXNet's executors.

>>> plan = memonger.plan(symbol, {"data": (32, 3, 224, 224), "softmax_label": (32,)}, budget_mb=1200)
>>> with memonger.packing():
...     module = mx.mod.Module(plan.apply(symbol))
...     module.bind(...)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random

import mxnet as mx
from tqdm import tqdm

from mxnet_resnet.base import environment
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.memory import mirrorgraph, mirrorplan
from mxnet_resnet.engines.mxnet.symbols import nodes

MOST_EXTRA_TIME = 33.0  # percent of a step; a whole forward pass is about a third of a step
BYTES = 4  # of an element, as MXNet plans memory, whatever its type
MEGABYTE = 2**20
NEARBY = 30_000  # operators of all plans that are looked at on a walk
PATIENCE = 100  # plans that are looked at in vain


@dataclass(frozen=True)
class Plan:
    """Which activations of a net to compute again in the backward pass, for the batch of one device.

    Attributes:
        megabytes_before, megabytes: what MXNet plans for the activations without and with it, bound under ``packing``.
        extra_time: expected, in percent of a step, from operation counts (mirrorgraph.ELEMENT_TIME).
        kept: names of the operators between which all is computed again, inputs first.
        marks: what it means for the nodes.
    """

    megabytes_before: int
    megabytes: int
    extra_time: float
    kept: tuple[str, ...]
    marks: mirrorgraph.Marks

    def apply(self, symbol: mx.sym.Symbol, cudnn: bool = False) -> mx.sym.Symbol:
        """The symbol that the plan was made for, with its marks, to be bound; ``symbol`` itself is the one to save.

        With ``cudnn``, each marked BatchNorm gets the square root of its momentum: cuDNN's changes the running
        statistics in every forward pass, and a marked one makes two. Other BatchNorms do so in the backward pass.
        """
        return mirrorgraph.marked(symbol, self.marks, cudnn)

    def __str__(self) -> str:
        part = self.megabytes / max(self.megabytes_before, 1)
        return (
            f"Planned activation memory: {self.megabytes} MB a device, {part:.0%} of {self.megabytes_before} MB; "
            f"expected extra time: {self.extra_time:.0f}% a step"
        )


def plan(symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]], budget_mb: float | None = None) -> Plan:
    """The plan with the least memory for at most a third of a step more time, or the fastest within a budget.

    Args:
        symbol: any net that ends in its loss, without marks.
        shapes: of images and labels by their names, those of one device, N first.
        budget_mb: memory for activations as MXNet plans it: 4 bytes an element, without parameters and their gradients.

    The same net and shapes give the same plan. Raises UserError if no plan that was found keeps within the budget.
    """
    missing = sorted(set(shapes) - set(symbol.list_arguments()))
    if missing:
        raise UserError(f"the net has no input {missing[0]}: memory cannot be planned for it")
    search = _Search(symbol, shapes, budget_mb)
    before = search.measured([])
    if budget_mb is not None and before.megabytes <= budget_mb:
        return before
    best = search.run()
    if budget_mb is not None and best.megabytes > budget_mb:
        raise UserError(
            f"no plan keeps the activations within {budget_mb:g} MB: the least found is {best.megabytes} MB"
        )
    return best


class _Search:
    """Plans from the model of mirrorplan, then others like the best; each is bound to see what MXNet makes of it."""

    def __init__(self, symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]], budget_mb: float | None):
        self.symbol = symbol
        self.shapes = shapes
        self.budget_mb = budget_mb
        self.blocks = mirrorplan.Blocks(mirrorgraph.OperatorGraph(symbol, shapes))
        self.megabytes: dict[mirrorgraph.Marks, int] = {}

    def measured(self, segments: Sequence[mirrorplan.Segment]) -> Plan:
        marks = self.blocks.marks(segments)
        if marks not in self.megabytes:
            with packing():
                self.megabytes[marks] = bound_megabytes(mirrorgraph.marked(self.symbol, marks), self.shapes)
        extra_time = 100 * self.blocks.time(segments) / self.blocks.graph.step_time
        before = next(iter(self.megabytes.values()))
        return Plan(before, self.megabytes[marks], extra_time, tuple(map(self.blocks.name, segments)), marks)

    def badness(self, candidate: Plan) -> tuple[float, float, float]:
        """What is over the limit, then what is to be small."""
        if self.budget_mb is None:
            over = max(candidate.extra_time - MOST_EXTRA_TIME, 0)
            return over, candidate.megabytes, candidate.extra_time
        return max(candidate.megabytes - self.budget_mb, 0), candidate.extra_time, candidate.megabytes

    def run(self) -> Plan:
        with tqdm(desc="Planning memory", unit=" plans", disable=None, leave=False) as bar:
            starts = [self.best(found, bar) for found in self.candidates()]
            return min((self.improved(start, bar) for start in starts), key=self.badness)

    def candidates(self) -> Iterator[list[list[mirrorplan.Segment]]]:
        """The plan that keeps every sum, those of one budget for all stages, and those of one for each."""
        yield [self.blocks.sums()]
        most = (self.budget_mb or 0) * MEGABYTE / BYTES
        for stages in ([range(len(self.blocks))], self.blocks.stages()):
            yield mirrorplan.combinations([mirrorplan.frontier(self.blocks, stage, most) for stage in stages])

    def best(self, candidates: list[list[mirrorplan.Segment]], bar: tqdm) -> list[mirrorplan.Segment]:
        badness = []
        for segments in candidates:
            badness.append(self.badness(self.measured(segments)))
            bar.update()
        return candidates[badness.index(min(badness))]

    def improved(self, segments: Sequence[mirrorplan.Segment], bar: tqdm) -> Plan:
        """The best plan on a walk from one to a neighbour that is no worse."""
        best, random, vain = self.measured(segments), Random(0), 0
        for _ in range(NEARBY // len(self.blocks.graph.operators)):
            neighbour = mirrorplan.neighbour(self.blocks, segments, random)
            candidate = self.measured(neighbour)
            bar.update()
            vain = 0 if self.badness(candidate) < self.badness(best) else vain + 1
            if self.badness(candidate) <= self.badness(best):
                best, segments = candidate, neighbour
            if vain == PATIENCE:
                break
        return best


def mirror_unit(symbol: mx.sym.Symbol, behind: mx.sym.Symbol) -> mx.sym.Symbol:
    """Mark all that is computed from ``behind``, but the output. Changes ``symbol``, returns it."""
    others = {*symbol.list_inputs(), *(node.name for node in nodes(behind)), symbol.name}
    for node in nodes(symbol):
        if node.name not in others:
            node._set_attr(force_mirroring="True")
    return symbol


def packing() -> AbstractContextManager[None]:
    """Within it, MXNet tries some ways to share the buffers of what it binds, and takes the smallest."""
    return environment.variable("NNVM_AUTO_SEARCH_MATCH_RANGE", "1")


def bound_megabytes(symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """What MXNet plans for the activations of a symbol in training, in MB. No memory is touched."""
    names = symbol.list_arguments()
    arguments, _, states = symbol.infer_shape(**shapes)
    requests = {name: "null" if name in shapes else "write" for name in names}
    executor = symbol.bind(
        mx.cpu(),
        [mx.nd.empty(shape) for shape in arguments],
        {name: mx.nd.empty(shape) for name, shape in zip(names, arguments) if name not in shapes},
        requests,
        [mx.nd.empty(shape) for shape in states],
    )
    return planned_megabytes(executor)


def planned_megabytes(executor: mx.executor.Executor) -> int:
    """The memory that MXNet planned for an executor's activations, in MB, without parameters and their gradients."""
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))
