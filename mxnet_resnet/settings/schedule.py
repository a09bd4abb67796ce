"""The learning rate as a pure function of the step: no framework, no state.

A new way to fall is a function here with ``@way("name")``: ``--lr-schedule`` offers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mxnet_resnet.base.arguments import SMALLEST_NUMBER

WARMUPS = ("constant", "linear")
STEPS = "steps"  # the way that --lr-steps and --lr-iterations are for; the others end with the run

Way = Callable[["Schedule", int], float]
WAYS: dict[str, Way] = {}


def way(name: str) -> Callable[[Way], Way]:
    """Register how a learning rate falls: a function of a schedule and a step behind its warm-up."""

    def register(function: Way) -> Way:
        WAYS[name] = function
        return function

    return register


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step; steps count the updates of the weights, from 0.

    Attributes:
        lr: after the warm-up.
        way: how it falls from there, a key of WAYS.
        milestones: of the way ``steps``: those from which on the rate is multiplied by ``factor``; rising.
        factor: of the milestones.
        end: the step at which the other ways end; 0 for ``steps``, whose rate does not depend on it.
        begin: the step that the warm-up, and the way behind it, begin at.
        warmup_steps: steps before ``lr`` holds.
        warmup_lr: the rate at the first of these.
        warmup_mode: ``"constant"``, ``warmup_lr`` throughout (arXiv 1512.03385, section 4.2), or ``"linear"`` up to
            ``lr`` (arXiv 1706.02677, section 2.2).
    """

    lr: float
    way: str = STEPS
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    end: int = 0
    begin: int = 0
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    warmup_mode: str = "constant"

    @property
    def warmed_up(self) -> int:
        """The first step behind the warm-up."""
        return self.begin + self.warmup_steps

    def __call__(self, step: int) -> float:
        rate = self._compute(step)
        return rate if rate >= SMALLEST_NUMBER else 0.0

    def _compute(self, step: int) -> float:
        if step < self.warmed_up:
            done = max(step - self.begin, 0) / self.warmup_steps if self.warmup_mode == "linear" else 0
            return self.warmup_lr + (self.lr - self.warmup_lr) * done
        return WAYS[self.way](self, step)

    def share_done(self, step: int) -> float:
        """How far a step is from the end of the warm-up, 0, to the end of the run, 1."""
        return min((step - self.warmed_up) / max(self.end - self.warmed_up, 1), 1)

    def describe(self, steps_per_epoch: int) -> str:
        """One sentence for the log."""
        parts = [f"Learning rate {self.lr:g}"]
        if self.warmup_steps:
            rise = "" if self.warmup_mode == "constant" else " rising"
            since = f" from step {self.begin} on" if self.begin else ""
            parts.append(f"in the first {self.warmup_steps} steps{since} {self.warmup_lr:g}{rise}")
        if self.way != STEPS:
            parts.append(f"then by the schedule {self.way} up to step {self.end}")
        elif self.milestones:
            places = ", ".join(f"{step} (after {step / steps_per_epoch:.4g} epochs)" for step in self.milestones)
            parts.append(f"times {self.factor:g} from steps {places} on")
        return ", ".join(parts)


@way(STEPS)
def fall_in_steps(schedule: Schedule, step: int) -> float:
    """Multiply the rate by the factor at each milestone (arXiv 1512.03385, section 3.4)."""
    return schedule.lr * schedule.factor ** sum(milestone <= step for milestone in schedule.milestones)


@way("cosine")
def fall_as_cosine(schedule: Schedule, step: int) -> float:
    """Half a cosine from the rate to 0 (arXiv 1608.03983, equation 5)."""
    return schedule.lr * (1 + math.cos(math.pi * schedule.share_done(step))) / 2
