"""Runs that differ in their seed alone, as one curve: their mean, and the band of a standard deviation around it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot.logreader import PHASES, Epoch, Run


def average(groups: Mapping[str, Sequence[Run]]) -> tuple[list[Run], list[str]]:
    """The mean of each group over the epochs that all its runs have, and a sentence on those that not all have.

    Raises UserError where the runs of a group have no epoch in common.
    """
    means, told = [], []
    for name, runs in groups.items():
        means.append(mean := _average(name, runs))
        others = sorted({number for run in runs for number in run.epochs} - mean.epochs.keys())
        if others:
            lacking = [run.name for run in runs if not run.epochs.keys() >= {*others}]
            span = f"{len(others)} epochs from {others[0]} to {others[-1]}, which are not all"
            if len(others) == 1:
                span = f"epoch {others[0]}, which is not"
            told.append(f"{span} in {', '.join(lacking)}")
    return means, told


def _average(name: str, runs: Sequence[Run]) -> Run:
    if len(runs) == 1:
        return runs[0]
    mean = Run(f"{name}, mean of {len(runs)}", images=runs[0].images, parameters=runs[0].parameters)
    for metric in runs[0].metrics():
        for phase in PHASES:
            curves = [dict(run.curve(phase, metric)) for run in runs]
            for number in sorted(set.intersection(*map(set, curves))):
                values = [curve[number] for curve in curves]
                getattr(mean.epochs.setdefault(number, Epoch()), phase)[metric] = statistics.fmean(values)
                mean.deviations[phase, metric, number] = statistics.stdev(values)
    if not mean.epochs:
        raise UserError(f"the runs {name} have no epoch in common: draw them without --mean")
    for number, epoch in mean.epochs.items():
        epochs = [run.epochs[number] for run in runs]
        epoch.rate = epochs[0].rate
        epoch.seconds = _mean([one.seconds for one in epochs])
        epoch.speed = _mean([one.speed for one in epochs])
    return mean


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of values that are all known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None
