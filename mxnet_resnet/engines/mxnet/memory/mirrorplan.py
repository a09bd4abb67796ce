"""Where to cut a graph, so that what lies between two cuts is computed again in the backward pass.

A cut is where all paths meet, such as a residual sum. The blocks between cuts make segments: one that is computed again
keeps the output of its last cut alone (a checkpoint in the words of Chen et al., arXiv 1604.06174), or ends before
that, at one of the convolutions of its last block, from which on all is kept. Memory is counted in elements, time in
multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from mxnet_resnet.engines.mxnet.memory.mirrorgraph import PRODUCTS, Marks, OperatorGraph

BUCKETS = 512  # steps in which the search counts the memory that is kept
STEPS = (1.02, 1.03, 1.04, 1.06, 1.08, 1.1)  # from one budget of the search to the next; the last one again and again


@dataclass(frozen=True)
class Ending:
    """A way to end a segment in a block.

    Attributes:
        unmarked: number of the operator of the block from which on none is marked; behind the block if all are.
        kept: memory from the forward to the backward pass, the output of the cut included.
        kept_before: the output of the cut before the block, if an operator that is not marked reads it.
        again: memory of what is computed again.
        time: of computing it.
    """

    unmarked: int
    kept: int
    kept_before: int
    again: int
    time: float


@dataclass(frozen=True)
class Segment:
    """Blocks ``first`` to ``last``, marked up to the ending, or not at all where there is none."""

    first: int
    last: int
    ending: Ending | None


class Blocks:
    """What the blocks of a graph cost. Block ``b`` is what lies between the cuts ``b - 1`` and ``b``, and cut ``b``."""

    def __init__(self, graph: OperatorGraph):
        self.graph = graph
        self.cuts = graph.cuts
        self.starts = [0, *(cut + 1 for cut in graph.cuts[:-1])]
        self.sizes = [graph.operators[cut].size for cut in graph.cuts]
        blocks = range(len(graph.cuts))
        self.whole = [self._ending(block, self.cuts[block] + 1) for block in blocks]
        self.stored = [self._ending(block, self.starts[block]).kept for block in blocks]
        self.endings = [self._endings(block) for block in blocks]
        self.gradients = [self._gradients(block) for block in blocks]

    def __len__(self) -> int:
        return len(self.cuts)

    def _endings(self, block: int) -> list[Ending]:
        operators, start, cut = self.graph.operators, self.starts[block], self.cuts[block]
        # The output of an unmarked operator is kept, but so are its inputs if its gradient reads them; a copy does not.
        copied = operators[cut].reads_inputs and operators[cut].mirrored and cut not in self.graph.heads
        firsts = [cut + 1 if copied else cut]
        for number in range(start, cut):
            if operators[number].kind in PRODUCTS:
                first = number
                while first > start and not operators[first - 1].reads_inputs:
                    first -= 1
                firsts.append(first)
        return [self._ending(block, first) for first in dict.fromkeys(firsts)]

    def _ending(self, block: int, first: int) -> Ending:
        operators, start, cut = self.graph.operators, self.starts[block], self.cuts[block]
        kept = {cut}
        for number in range(max(first, start), cut + 1):
            kept.update(operators[number].inputs if operators[number].reads_inputs else ())
            kept.update((number,) if operators[number].reads_outputs else ())
        inside = range(start, cut + 1)
        again = [number for number in inside if number < first and operators[number].mirrored]
        masked = [number for number in inside if not operators[number].mirrored]  # which keep an output and a mask
        return Ending(
            unmarked=first,
            kept=self._size(number for number in kept if number >= start) + 2 * self._size(masked),
            kept_before=self._size(number for number in kept if number < start),
            again=self._size(number for number in again if self.graph.read_backward[number]),
            time=sum(operators[number].forward for number in again),
        )

    def _size(self, numbers: Iterable[int]) -> int:
        return sum(self.graph.operators[number].size for number in numbers)

    def _gradients(self, block: int) -> int:
        """Memory for the gradients of an output and an input at a time."""
        operators = self.graph.operators[max(self.starts[block] - 1, 0) : self.cuts[block] + 1]
        return 2 * max(operator.size for operator in operators)

    def stages(self) -> list[range]:
        """Blocks up to where the outputs of the cuts become smaller.

        MXNet never joins buffers: what a stage has freed is of little use to one of larger tensors.
        """
        ends = [block + 1 for block in range(1, len(self) - 1) if self.sizes[block] < self.sizes[block - 1]]
        return [range(first, last) for first, last in zip([0, *ends], [*ends, len(self)])]

    def sums(self) -> list[Segment]:
        """A segment to each residual sum, all of it computed again."""
        ends = [
            block for block in range(len(self) - 1) if self.graph.operators[self.cuts[block]].kind == "elemwise_add"
        ]
        ends.append(len(self) - 1)
        starts = [0, *(end + 1 for end in ends[:-1])]
        return [Segment(first, last, self.endings[last][0]) for first, last in zip(starts, ends)]

    def name(self, segment: Segment) -> str:
        """Of the operator that ends a segment."""
        return self.graph.operators[self.cuts[segment.last]].name

    def marks(self, segments: Iterable[Segment]) -> Marks:
        """What segments mean for the nodes."""
        operators, mirrored, copied = self.graph.operators, set(), set()
        for segment in segments:
            if segment.ending is not None:
                inside = operators[self.starts[segment.first] : segment.ending.unmarked]
                mirrored.update(operator.position for operator in inside if operator.mirrored)
                if segment.ending.unmarked > self.cuts[segment.last]:
                    copied.add(operators[self.cuts[segment.last]].position)
        return Marks(frozenset(mirrored), frozenset(copied))

    def time(self, segments: Iterable[Segment]) -> float:
        """Of all that segments compute again."""
        total = 0.0
        for segment in segments:
            if segment.ending is not None:
                total += segment.ending.time + sum(self.whole[b].time for b in range(segment.first, segment.last))
        return total


def least_time(blocks: Blocks, stage: range, budget: float) -> list[Segment] | None:
    """The segments of ``stage`` that take least time to compute again in ``budget`` elements, or None if none fit.

    The backward pass goes from the last segment to the first: at each, what it computes again and its gradients are
    held together with what all segments before it have kept.
    """
    unit = budget / BUCKETS
    best = {stage.start: np.full(BUCKETS + 1, np.inf)}
    best[stage.start][0] = 0
    chosen: dict[int, np.ndarray] = {}
    choices: list[tuple[Segment, int]] = []
    for last in stage:
        best[last + 1] = np.full(BUCKETS + 1, np.inf)
        chosen[last + 1] = np.full(BUCKETS + 1, -1)
        for first, ending, kept, held, time in _endings(blocks, stage.start, last, budget):
            shift = round(kept / unit)
            width = min(int((budget - held) / unit), BUCKETS - shift) + 1
            if width > 0:
                found = best[first][:width] + time
                target = slice(shift, shift + width)
                better = found < best[last + 1][target]
                if better.any():
                    best[last + 1][target][better] = found[better]
                    chosen[last + 1][target][better] = len(choices)
                    choices.append((Segment(first, last, ending), shift))
    position, bucket = stage.stop, int(best[stage.stop].argmin())
    if not np.isfinite(best[position][bucket]):
        return None
    segments = []
    while position != stage.start:
        segment, shift = choices[chosen[position][bucket]]
        segments.append(segment)
        position, bucket = segment.first, bucket - shift
    return segments[::-1]


def _endings(
    blocks: Blocks, begin: int, last: int, budget: float
) -> Iterable[tuple[int, Ending | None, int, int, float]]:
    """Segments that end with block ``last`` and fit: first block, ending, elements kept, held at worst, and time."""
    again, time, stored, gradients = 0, 0.0, blocks.stored[last], blocks.gradients[last]
    for first in range(last, begin - 1, -1):
        if first < last:
            again += blocks.whole[first].again
            time += blocks.whole[first].time
            # Within a segment that is not marked, the output of a cut is only kept for gradients.
            stored += blocks.stored[first] - blocks.sizes[first] * (not blocks.graph.read_backward[blocks.cuts[first]])
            gradients = max(gradients, blocks.gradients[first])
        fits = stored + gradients <= budget
        if fits:
            yield first, None, stored, stored + gradients, 0.0
        for ending in blocks.endings[last]:
            kept = ending.kept + ending.kept_before * (first < last)
            held = kept + again + ending.again + gradients
            if held <= budget:
                fits = True
                yield first, ending, kept, held, time + ending.time
        if not fits:
            return


@dataclass(frozen=True)
class Choice:
    """Segments of a stage, the elements of memory that they were searched for, and their time."""

    memory: float
    time: float
    segments: list[Segment]


def frontier(blocks: Blocks, stage: range, most: float) -> list[Choice]:
    """The least time of a stage over budgets, from the least possible one to ``most`` elements (but a few at least)."""
    low, high = 0.0, float(max(blocks.gradients[stage.start : stage.stop]))
    while least_time(blocks, stage, high) is None:
        low, high = high, 2 * high
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if least_time(blocks, stage, middle) else (middle, high)
    found: list[Choice] = []
    budget = high
    while len(found) < len(STEPS) or budget < most:
        segments = least_time(blocks, stage, budget) or []
        found.append(Choice(budget, blocks.time(segments), segments))
        if not found[-1].time:
            break
        budget *= STEPS[min(len(found), len(STEPS)) - 1]
    return found


def combinations(frontiers: Sequence[Sequence[Choice]]) -> list[list[Segment]]:
    """For all stages, the choices that trade memory for time at the same rate: over rates, least memory first."""
    rates = {
        (one.time - other.time) / (other.memory - one.memory)
        for choices in frontiers
        for one, other in zip(choices, choices[1:])
        if one.time > other.time
    }
    found = {}
    for rate in [math.inf, *sorted(rates, reverse=True), 0.0]:
        chosen = [min(choices, key=lambda choice: _price(choice, rate)) for choices in frontiers]
        found[tuple(choice.memory for choice in chosen)] = [part for choice in chosen for part in choice.segments]
    return list(found.values())


def _price(choice: Choice, rate: float) -> float:
    return choice.memory if rate == math.inf else choice.time + rate * choice.memory


def neighbour(blocks: Blocks, segments: Sequence[Segment], random: Random) -> list[Segment]:
    """Segments of which two are joined, one is parted, a cut between two is moved, or one ends in another way."""
    number = random.randrange(len(segments))
    one, two = segments[number], segments[min(number + 1, len(segments) - 1)]
    move = random.randrange(4)
    if move == 0:
        bounds = [one.first, two.last + 1]
    elif move == 1:
        bounds = [one.first, random.randint(one.first, one.last), one.last + 1]
        two = one
    elif move == 2:
        bounds = [one.first, one.last + 1 + random.choice((-2, -1, 1, 2)), two.last + 1]
    else:
        bounds = [one.first, one.last + 1]
        two = one
    if any(start >= stop for start, stop in zip(bounds, bounds[1:])):
        return list(segments)
    parts = []
    for start, stop in zip(bounds, bounds[1:]):
        parts.append(Segment(start, stop - 1, random.choice([*blocks.endings[stop - 1], None])))
    return [*segments[:number], *parts, *segments[number + (1 if two is one else 2) :]]
