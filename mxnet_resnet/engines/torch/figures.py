"""What is counted of a batch, on the device, and read when someone asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from mxnet_resnet.runs.meters import Figures, counts_top5

EPSILON = 1e-12  # as in MXNet's own CrossEntropy


ROWS = 64  # that are read together

Read = Callable[[], list[float]]


class Rows:
    """Sums of steps, row by row on the device, which are read together: each reading makes the host wait."""

    def __init__(self) -> None:
        self._there: torch.Tensor | None = None
        self._here: list[list[float]] = []
        self._count = 0

    def note(self, sums: torch.Tensor) -> Read:
        """Keep the sums of a step, and give what reads them."""
        if self._there is None:
            self._there = sums.new_zeros(ROWS, len(sums))
        self._there[self._count].copy_(sums)
        self._count += 1
        return partial(self._read, self._count - 1)

    @property
    def full(self) -> bool:
        return self._count == ROWS

    def _read(self, row: int) -> list[float]:
        if row >= len(self._here) and self._there is not None:
            self._here = self._there[: self._count].tolist()
        return self._here[row]


class PendingFigures:
    """The figures of a batch that the device computes meanwhile (base.Pending); `fill` says how they are read.

    Attributes:
        updated: whether the weights were changed.
    """

    def __init__(self) -> None:
        self.updated = True
        self._images = 0
        self._read: Read | None = None
        self._best: torch.Tensor | None = None

    def fill(self, read: Read, images: int, best: torch.Tensor | None = None, updated: bool = True) -> None:
        """``read`` gives the sums of the columns of `measure` over ``images``; ``best`` is the best class of each
        (N,).
        """
        self._read, self._images, self._best, self.updated = read, images, best, updated

    def result(self) -> Figures:
        assert self._read is not None, "the step was noted, and not launched"
        correct, *top5, loss = self._read()
        classes = None if self._best is None else self._best.cpu().numpy()
        return Figures(self._images, correct, top5[0] if top5 else None, loss, classes)


def measure(scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is counted of each image, and its best class (N,): scores (N, K), and labels (N,) or distributions (N, K).

    The columns are whether the best class is the label, whether the label is among the best five (where there are many
    classes), and the cross-entropy in nats: (N, 2 or 3), float64.
    """
    logarithms = (scores.softmax(dim=1) + EPSILON).log()
    if labels.ndim == 2:
        losses, labels = -(labels * logarithms).sum(dim=1), labels.argmax(dim=1)
    else:
        losses = -logarithms.gather(1, labels[:, None]).squeeze(1)
    best = scores.argmax(dim=1)
    columns = [best == labels]
    if counts_top5(scores.shape[1]):
        columns.append((scores.topk(5, dim=1).indices == labels[:, None]).any(dim=1))
    return torch.stack([*(column.double() for column in columns), losses.double()], dim=1), best


def compute_loss(scores: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The mean cross-entropy: scores (N, K), labels (N,), of whose weight ``smoothing`` is shared evenly by the other
    classes, or distributions (N, K), which are smooth already.
    """
    if labels.ndim == 1 and smoothing:
        classes = scores.shape[1]
        shares = torch.full_like(scores, smoothing / max(classes - 1, 1))
        labels = shares.scatter_(1, labels[:, None], 1 - smoothing)
    return functional.cross_entropy(scores, labels)
