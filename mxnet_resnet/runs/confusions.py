"""Which classes a net takes for which others, counted while it is validated."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

import mxnet as mx
import numpy as np

from mxnet_resnet.runs.meter import IN_FLIGHT

EXAMPLES = 6


class Confusion(NamedTuple):
    """``count`` of ``total`` images of the class ``label`` were taken for ``taken``; ``records`` are some of them."""

    label: int
    taken: int
    count: int
    total: int
    records: list[int]


class Confusions:
    """Counts over batches of the records ``first``, ``first + step``, ... in this order: of one of ``step`` workers.

    As in meter.Meter the answers to a batch are read when later ones are under way.
    """

    def __init__(self, first: int = 0, step: int = 1):
        self.step, self._next = step, first
        self._pending: deque[tuple[mx.nd.NDArray, mx.nd.NDArray]] = deque()
        self._totals: Counter[int] = Counter()
        self._wrong: Counter[tuple[int, int]] = Counter()
        self._records: dict[tuple[int, int], list[int]] = {}

    def update(self, outputs: mx.nd.NDArray, labels: mx.nd.NDArray) -> None:
        """Add a batch: probabilities (N, classes), labels (N,)."""
        self._pending.append((outputs.argmax(axis=1), labels))
        self._settle(IN_FLIGHT - 1)

    def worst(self, most: int) -> list[Confusion]:
        """The pairs that are most often confused, the worst first."""
        self._settle(0)
        ordered = sorted(self._wrong.items(), key=lambda item: (-item[1], item[0]))
        return [Confusion(*pair, count, self._totals[pair[0]], self._records[pair]) for pair, count in ordered[:most]]

    def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            taken, labels = (array.asnumpy().astype(np.int64) for array in self._pending.popleft())
            self._totals.update(labels.tolist())
            for place in np.flatnonzero(taken != labels):
                pair = (int(labels[place]), int(taken[place]))
                self._wrong[pair] += 1
                records = self._records.setdefault(pair, [])
                if len(records) < EXAMPLES:
                    records.append(self._next + int(place) * self.step)
            self._next += len(labels) * self.step
