"""The learning rate as a pure function of the step: no framework, no state."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

SCHEDULES = ("steps", "cosine")
WARMUPS = ("constant", "linear")


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step; steps count the updates of the weights, from 0.

    Attributes:
        lr: after the warm-up.
        milestones: the steps from which on the rate is multiplied by ``factor``, each time; rising.
        factor: of the milestones.
        cosine_end: where not 0, the rate falls from ``lr`` to 0 at this step as half a cosine (arXiv 1608.03983,
            equation 5), instead of by milestones.
        begin: the step that the warm-up, and the cosine behind it, begin at.
        warmup_steps: steps before ``lr`` holds.
        warmup_lr: the rate at the first of these.
        warmup_mode: ``"constant"``, ``warmup_lr`` throughout (arXiv 1512.03385, section 4.2), or ``"linear"`` up to
            ``lr`` (arXiv 1706.02677, section 2.2).
    """

    lr: float
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    cosine_end: int = 0
    begin: int = 0
    warmup_steps: int = 0
    warmup_lr: float = 0.0
    warmup_mode: str = "constant"

    def __call__(self, step: int) -> float:
        warmed_up = self.begin + self.warmup_steps
        if step < warmed_up:
            done = max(step - self.begin, 0) / self.warmup_steps if self.warmup_mode == "linear" else 0
            return self.warmup_lr + (self.lr - self.warmup_lr) * done
        if self.cosine_end:
            done = min((step - warmed_up) / max(self.cosine_end - warmed_up, 1), 1)
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr * self.factor ** sum(milestone <= step for milestone in self.milestones)

    def describe(self, steps_per_epoch: int) -> str:
        """One sentence for the log."""
        parts = [f"Learning rate {self.lr:g}"]
        if self.warmup_steps:
            rise = "" if self.warmup_mode == "constant" else " rising"
            since = f" from step {self.begin} on" if self.begin else ""
            parts.append(f"in the first {self.warmup_steps} steps{since} {self.warmup_lr:g}{rise}")
        if self.cosine_end:
            parts.append(f"falling as a cosine to 0 at step {self.cosine_end}")
        elif self.milestones:
            places = ", ".join(f"{step} (epoch {step / steps_per_epoch:.4g})" for step in self.milestones)
            parts.append(f"times {self.factor:g} from steps {places} on")
        return ", ".join(parts)


def from_options(options: argparse.Namespace, steps_per_epoch: int, total_batch: int) -> Schedule:
    """The schedule that the flags of train_resnet.py describe; ``total_batch`` is over all devices and workers.

    A learning rate given with ``--retrain`` is the one from there on, and only the milestones ahead change it; the
    warm-up of a recipe does not come again.
    """
    factor = total_batch / options.lr_batch if options.scale_lr else 1
    milestones = options.lr_iterations or [epoch * steps_per_epoch for epoch in options.lr_steps]
    begin = (options.model_load_epoch or 0) * steps_per_epoch
    anew = options.retrain and "lr" in options.given
    cosine = options.lr_schedule == "cosine"
    return Schedule(
        lr=factor * (0.1 if options.lr is None else options.lr),
        milestones=() if cosine else tuple(step for step in milestones if not anew or step > begin),
        factor=options.lr_factor,
        cosine_end=options.epochs * steps_per_epoch if cosine else 0,
        begin=begin if anew else 0,
        warmup_steps=options.warmup_steps if not anew or "warmup-steps" in options.given else 0,
        warmup_lr=options.warmup_lr,
        warmup_mode=options.warmup_mode,
    )
