"""Runs that differ in their seed alone, as one curve: their mean, and the band of a standard deviation around it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot.logmetrics import epochs
from mxnet_resnet.plot.run import PHASES, Epoch, Run


def average(groups: Mapping[str, Sequence[Run]]) -> tuple[list[Run], list[str]]:
    """The mean of each group over the epochs that all its runs tell, and a sentence on those that not all tell.

    Raises UserError where the runs of a group have no epoch in common.
    """
    means, told = [], []
    for name, runs in groups.items():
        means.append(_average(name, runs))
        lacking: dict[str, set[int]] = {}
        for phase, metric in _curves(runs):
            there = {number for run in runs for number, _ in run.told(phase, metric)}
            for run in runs:
                if missing := there - dict(run.told(phase, metric)).keys():
                    lacking.setdefault(run.name, set()).update(missing)
        if others := sorted(set().union(*lacking.values())):
            which = "which are not all in" if len(others) > 1 else "which is not in"
            told.append(f"{epochs(others)}, {which} {', '.join(lacking)}")
    return means, told


def _curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The (phase, metric) pairs that any of the runs has."""
    metrics = dict.fromkeys(name for run in runs for name in run.metrics())
    return [(phase, metric) for metric in metrics for phase in PHASES if any(run.told(phase, metric) for run in runs)]


def _average(name: str, runs: Sequence[Run]) -> Run:
    """The mean, NaN where a run is."""
    if len(runs) == 1:
        return runs[0]
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    mean = Run(f"{name}, mean of {len(runs)}", images=runs[0].images, parameters=runs[0].parameters, notes=notes)
    for phase, metric in _curves(runs):
        curves = [dict(run.told(phase, metric)) for run in runs]
        for number in sorted(set.intersection(*map(set, curves))):
            values = [curve[number] for curve in curves]
            getattr(mean.epochs.setdefault(number, Epoch()), phase)[metric] = statistics.fmean(values)
            if all(map(math.isfinite, values)):
                mean.deviations[phase, metric, number] = statistics.stdev(values)
    if not mean.epochs:
        raise UserError(f"the runs {name} have no epoch in common: draw them without --mean")
    for number, epoch in mean.epochs.items():
        ones = [run.epochs[number] for run in runs]
        epoch.rate = ones[0].rate
        epoch.seconds = _mean([one.seconds for one in ones])
        epoch.speed = _mean([one.speed for one in ones])
    return mean


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of values that are all known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None
