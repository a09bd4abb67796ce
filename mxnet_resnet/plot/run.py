"""A training run as its log tells it: what each epoch's training and validation came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

PHASES = ("train", "validation")
ERRORS = ("top1", "top5")  # our names of the metrics that are in percent


@dataclass
class Epoch:
    """What a log tells of one epoch.

    Attributes:
        train, validation: errors in percent, as ``"top1"`` and ``"top5"``, other metrics as logged; NaN as told.
        seconds: what its training took.
        rate: the learning rate that it began with.
        speed: of its training, in images/s.
        wait: seconds of its training spent waiting for data.
    """

    train: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    rate: float | None = None
    speed: float | None = None
    wait: float | None = None


@dataclass
class Run:
    """A run, read; all epochs count from 0. Where it was restarted from an earlier epoch, the later lines stand.

    Attributes:
        images: those trained on in an epoch, where the log tells.
        parameters: their number in the net, where the log tells.
        deviations: of a run that is the mean of several: the sample standard deviation, by phase, metric and epoch.
        notes: sentences on what of the log was left out, and on what was taken for granted.
    """

    name: str
    epochs: dict[int, Epoch] = field(default_factory=dict)
    images: int | None = None
    parameters: int | None = None
    deviations: dict[tuple[str, str, int], float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def told(self, phase: str, metric: str = "top1") -> list[tuple[int, float]]:
        """The (epoch, value) pairs of ``"train"`` or ``"validation"`` in the order of the epochs, NaN among them."""
        points = ((number, getattr(epoch, phase).get(metric)) for number, epoch in sorted(self.epochs.items()))
        return [(number, value) for number, value in points if value is not None]

    def curve(self, phase: str, metric: str = "top1") -> list[tuple[int, float]]:
        """As `told`, what is finite alone."""
        return [(number, value) for number, value in self.told(phase, metric) if math.isfinite(value)]

    def judged(self, metric: str = "top1") -> str:
        """The phase that a run is judged by: the validation, unless the log tells none, not even NaN."""
        return "validation" if self.told("validation", metric) else "train"

    def metrics(self) -> list[str]:
        """The metrics of which there is a curve, the errors first."""
        return [name for name in self.names() if any(self.curve(phase, name) for phase in PHASES)]

    def names(self) -> list[str]:
        """The metrics that are told, those among them that are NaN throughout; the errors first."""
        names = {name for epoch in self.epochs.values() for phase in PHASES for name in getattr(epoch, phase)}
        return sorted(names, key=lambda name: (ERRORS.index(name) if name in ERRORS else len(ERRORS), name))

    def rate_steps(self) -> list[tuple[int, float]]:
        """The (epoch, learning rate) pairs where the rate jumps; one that changes each epoch, as by a cosine, glides.

        An epoch of which none is told has the rate of the one before; that of the first ones may be unknown.
        """
        told = [(number, epoch.rate) for number, epoch in sorted(self.epochs.items()) if epoch.rate]
        if told and told[0][0] > min(self.epochs):  # the first line about it tells of a change
            told.insert(0, (min(self.epochs), math.inf))
        changes = told[:1] + [now for before, now in zip(told, told[1:]) if now[1] != before[1]]
        ends = [number for number, _ in changes[1:]] + [max(self.epochs) + 1]
        lasting = [end - number for (number, _), end in zip(changes, ends)]
        return [
            changes[i]
            for i in range(1, len(changes))
            if not 0.7 < changes[i][1] / changes[i - 1][1] < 1.5 and max(lasting[i - 1 : i + 1]) > 1
        ]
