"""Metrics of batches, gathered without making the computation wait for them."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import mxnet as mx

EPSILON = 1e-12  # as in MXNet's own CrossEntropy
MOST_WITHOUT_TOP5 = 100  # classes; published logs of ImageNet have the top-5 accuracy, those of CIFAR do not
IN_FLIGHT = 2


class Diverged(Exception):
    """The loss of a batch is not finite; ``tag`` is what was given with it."""

    def __init__(self, loss: float, tag: object):
        super().__init__(loss)
        self.loss, self.tag = loss, tag


class Meter:
    """Accuracy, top-5 accuracy where there are many classes, and cross-entropy: of an epoch, and of a window in it.

    The figures of a batch are read when the batch after it is under way, so that the device never idles; this also
    keeps the number of batches in flight, and with it memory, down.
    """

    def __init__(self, num_classes: int):
        self.names = ["accuracy", "cross-entropy"]
        if num_classes > MOST_WITHOUT_TOP5:
            self.names.insert(1, "top_k_accuracy_5")
        self._pending: deque[tuple[mx.nd.NDArray, int, object]] = deque()
        self.clear()

    def clear(self) -> None:
        """Begin an epoch."""
        self._pending.clear()
        self._epoch, self._window = _zeros(self.names), _zeros(self.names)

    def update(self, outputs: mx.nd.NDArray, labels: mx.nd.NDArray, tag: object = None) -> None:
        """Add a batch: probabilities (N, classes), and labels (N,) or the distributions (N, classes) trained towards.

        Raises Diverged where the loss of an earlier batch is not finite.
        """
        figures = _figures(outputs, labels.as_in_context(outputs.context), "top_k_accuracy_5" in self.names)
        self._pending.append((figures, outputs.shape[0], tag))
        self._settle(IN_FLIGHT - 1)

    def epoch(self) -> list[tuple[str, float]]:
        """The means since the epoch began. Raises Diverged."""
        self._settle(0)
        return self._means(self._epoch)

    def window(self) -> list[tuple[str, float]]:
        """The means since this was last called. Raises Diverged."""
        self._settle(0)
        means = self._means(self._window)
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

    def _means(self, sums: dict[str, float]) -> list[tuple[str, float]]:
        return means(self.names, list(sums.values()))

    def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            figures, count, tag = self._pending.popleft()
            values = [count, *figures.asnumpy().tolist()]
            if not math.isfinite(values[-1]):
                raise Diverged(values[-1], tag)
            for sums in (self._epoch, self._window):
                for name, value in zip(sums, values):
                    sums[name] += value


def means(names: list[str], sums: list[float]) -> list[tuple[str, float]]:
    """The metrics of Meter.sums, which may be added over workers."""
    count = sums[0]
    return [(name, value / count if count else math.nan) for name, value in zip(names, sums[1:])]


def _zeros(names: list[str]) -> dict[str, float]:
    return dict.fromkeys(["images", *names], 0)


def _figures(outputs: mx.nd.NDArray, labels: mx.nd.NDArray, top5: bool) -> mx.nd.NDArray:
    """The sums over a batch, in the order of the names."""
    outputs = outputs.astype("float32")
    logarithms = (outputs + EPSILON).log()
    if labels.ndim == 2:
        losses, classes = -(labels * logarithms).sum(), labels.argmax(axis=1)
    else:
        losses, classes = -logarithms.pick(labels).sum(), labels
    figures = [(outputs.argmax(axis=1) == classes).sum()]
    if top5:
        figures.append((outputs.topk(k=5) == classes.expand_dims(1)).sum())
    return mx.nd.concat(*figures, losses, dim=0)
