"""What is measured of batches, gathered without making the computation wait for it."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

MOST_WITHOUT_TOP5 = 100  # classes; published logs of ImageNet have the top-5 accuracy, those of CIFAR do not
EXAMPLES = 6

Metrics = list[tuple[str, float]]


@dataclass(frozen=True)
class Figures:
    """What is counted of a batch.

    Attributes:
        images: their number.
        correct: those whose best class is their label, or the heaviest one of their distribution.
        top5: those whose label is among the best five, or None where there are few classes.
        loss: the sum of their cross-entropies, in nats.
        classes: the best class of each (N,), of a validation.
    """

    images: int
    correct: float
    top5: float | None
    loss: float
    classes: np.ndarray | None = None


class Source(Protocol):
    """Where figures come from, once they are there."""

    def result(self) -> Figures:
        """The figures; the same ones at each call."""


class Diverged(Exception):
    """The loss of a batch is not finite; ``tag`` is what was given with it: where it is."""

    def __init__(self, loss: float, tag: object):
        super().__init__(loss)
        self.loss, self.tag = loss, tag


class Meter:
    """Accuracy, top-5 accuracy where there are many classes, and cross-entropy: of an epoch, and of a window in it.

    At most ``in_flight`` batches wait for their figures to be read: with two of them those of a batch are read when
    the one after it is under way, so that the device never idles, and what batches keep in memory stays little.
    """

    def __init__(self, classes: int, in_flight: int):
        self.names = ["accuracy", "cross-entropy"]
        if counts_top5(classes):
            self.names.insert(1, "top_k_accuracy_5")
        self._in_flight = in_flight
        self._pending: deque[tuple[Source, object]] = deque()
        self.clear()

    def clear(self) -> None:
        """Begin an epoch."""
        self._pending.clear()
        self._epoch, self._window = _zeros(self.names), _zeros(self.names)

    def update(self, figures: Source, tag: object = None) -> None:
        """Add a batch. Raises Diverged where the loss of an earlier one is not finite."""
        self._pending.append((figures, tag))
        self._settle(self._in_flight - 1)

    def epoch(self) -> Metrics:
        """The means since the epoch began. Raises Diverged."""
        return mean_metrics(self.names, self.sums())

    def window(self) -> Metrics:
        """The means since this was last called. Raises Diverged."""
        self._settle(0)
        means = mean_metrics(self.names, list(self._window.values()))
        self._window = _zeros(self.names)
        return means

    def state(self) -> dict[str, Any]:
        """The sums, for a checkpoint. Raises Diverged."""
        self._settle(0)
        return {"epoch": self._epoch, "window": self._window}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the sums of `state`."""
        self.clear()
        for kept, sums in (("epoch", self._epoch), ("window", self._window)):
            sums.update(state.get(kept, {}))

    def sums(self) -> list[float]:
        """The number of images of the epoch, and the sum of each metric over them."""
        self._settle(0)
        return list(self._epoch.values())

    def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            source, tag = self._pending.popleft()
            figures = source.result()
            if not math.isfinite(figures.loss):
                raise Diverged(figures.loss, tag)
            top5 = [] if figures.top5 is None else [figures.top5]
            values = [figures.images, figures.correct, *top5, figures.loss]
            for sums in (self._epoch, self._window):
                for name, value in zip(sums, values):
                    sums[name] += value


def counts_top5(classes: int) -> bool:
    """Whether nets of so many classes have a top-5 accuracy."""
    return classes > MOST_WITHOUT_TOP5


def mean_metrics(names: Sequence[str], sums: Sequence[float]) -> Metrics:
    """The metrics of Meter.sums, which may be added over workers."""
    count = sums[0]
    return [(name, value / count if count else math.nan) for name, value in zip(names, sums[1:])]


def _zeros(names: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(["images", *names], 0)


class Confusion(NamedTuple):
    """``count`` of ``total`` images of the class ``label`` were taken for ``taken``; ``records`` are some of them."""

    label: int
    taken: int
    count: int  # type: ignore[assignment]  # tuple's own method of this name is of no use here
    total: int
    records: list[int]


class Confusions:
    """Counts over batches of the records ``first``, ``first + step``, ... in this order: of one of ``step`` workers.

    As in Meter the figures of ``in_flight`` batches wait to be read.
    """

    def __init__(self, first: int = 0, step: int = 1, in_flight: int = 1):
        self.step, self._next, self._in_flight = step, first, in_flight
        self._pending: deque[tuple[Source, np.ndarray]] = deque()
        self._totals: Counter[int] = Counter()
        self._wrong: Counter[tuple[int, int]] = Counter()
        self._records: dict[tuple[int, int], list[int]] = {}

    def update(self, figures: Source, labels: np.ndarray) -> None:
        """Add a batch of figures with classes; labels (N,)."""
        self._pending.append((figures, labels))
        self._settle(self._in_flight - 1)

    def worst(self, most: int) -> list[Confusion]:
        """The pairs that are most often confused, the worst first."""
        self._settle(0)
        ordered = sorted(self._wrong.items(), key=lambda item: (-item[1], item[0]))
        return [Confusion(*pair, count, self._totals[pair[0]], self._records[pair]) for pair, count in ordered[:most]]

    def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            source, given = self._pending.popleft()
            taken, labels = np.asarray(source.result().classes), given.astype(np.int64)
            self._totals.update(map(int, labels))
            for place in np.flatnonzero(taken != labels):
                pair = (int(labels[place]), int(taken[place]))
                self._wrong[pair] += 1
                records = self._records.setdefault(pair, [])
                if len(records) < EXAMPLES:
                    records.append(self._next + int(place) * self.step)
            self._next += len(labels) * self.step
