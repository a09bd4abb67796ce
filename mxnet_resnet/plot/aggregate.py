"""Runs that differ in their seed alone, as a line of a table; plot/means.py draws them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import curves
from mxnet_resnet.plot.logreader import FOLDER_LOGS
from mxnet_resnet.plot.run import Run

HEADS = ("runs", "n", "epochs", "parameters")
VALUES = ("mean", "std", "min", "max")
SEED = r"[-_.]?s(eed)?\d+"  # what the names of runs differ in that belong together


def check_different(logs: Sequence[Path]) -> None:
    """Raise UserError where a run is given twice, by its train.log and its metrics.jsonl, say."""
    runs: dict[Path, Path] = {}
    for path in logs:
        run_of = path.resolve().parent if path.name in FOLDER_LOGS else path.resolve()
        if run_of in runs:
            raise UserError(f"{runs[run_of]} and {path} are the same run, which would count twice")
        runs[run_of] = path


def grouped(runs: Sequence[Run], seed: re.Pattern) -> dict[str, list[Run]]:
    """The runs by their names without the seed."""
    groups: dict[str, list[Run]] = {}
    for found in runs:
        groups.setdefault(seed.sub("", found.name) or found.name, []).append(found)
    return groups


def without_diverged(groups: Mapping[str, Sequence[Run]], metric: str) -> tuple[dict[str, list[Run]], list[str]]:
    """The groups without the runs whose validation is NaN throughout, and a sentence on each that has such.

    Raises UserError where nothing is left.
    """
    left: dict[str, list[Run]] = {}
    told = []
    for name, runs in groups.items():
        lost = [run.name for run in runs if run.told("validation", metric) and not run.curve("validation", metric)]
        if kept := [run for run in runs if run.name not in lost]:
            left[name] = kept
        if lost:
            counted = f"{name} counts {len(kept)} of {len(runs)} runs" if kept else f"{name} has no line in the table"
            told.append(f"{', '.join(lost)}: the validation tells no {metric} but nan; {counted}")
    if not left:
        raise UserError(f"no run is left for the table: {told[0] if told else 'there is none'}")
    return left, told


def row(name: str, runs: Sequence[Run], metric: str) -> dict[str, object]:
    """The figures of a group, those of the last epoch NaN where a run ended so.

    Raises UserError where a run has no validation of ``metric`` that is a number, or other epochs.
    """
    last, best = [], []
    for found in runs:
        points, found_best = found.told("validation", metric), curves.best_point(found, metric)
        if not points or not found_best:
            raise UserError(f"the log of {found.name} tells no {metric} of a validation")
        last.append(points[-1])
        best.append(found_best[1])
    epochs = {1 + epoch for epoch, _ in last}
    if len(epochs) > 1:
        raise UserError(f"the runs {name} have different numbers of epochs: {', '.join(map(str, sorted(epochs)))}")
    sizes = {found.parameters for found in runs if found.parameters is not None}
    if len(sizes) > 1:
        raise UserError(f"the runs {name} are of different nets: of {', '.join(map(str, sorted(sizes)))} parameters")
    figures = {f"last {key}": value for key, value in summed([value for _, value in last]).items()}
    figures.update({f"best {key}": value for key, value in summed(best).items()})
    return {**dict(zip(HEADS, (name, len(runs), epochs.pop(), next(iter(sizes), "")))), **figures}


def summed(values: Sequence[float]) -> dict[str, float | str]:
    """Mean, sample standard deviation (of two runs or more), smallest and largest; NaN where a value is."""
    if not all(map(math.isfinite, values)):
        return dict.fromkeys(VALUES, math.nan)
    deviation = round(statistics.stdev(values), 4) if len(values) > 1 else ""
    figures = (round(statistics.mean(values), 4), deviation, round(min(values), 4), round(max(values), 4))
    return dict(zip(VALUES, figures))


def markdown(rows: Sequence[dict[str, object]], what: str) -> str:
    """The table for a page."""
    heads = ("runs", "n", "epochs", "parameters", f"{what}, last epoch", "min", "max", "at its best", "min", "max")
    lines = [f"| {' | '.join(heads)} |", f"| ---{' | ---:' * (len(heads) - 1)} |"]
    for found in rows:
        size = f"{found['parameters']:,}" if found["parameters"] else "-"
        cells = [found["runs"], found["n"], found["epochs"], size]
        for which in ("last", "best"):
            cells += [spread(found, which), *(f"{found[f'{which} {key}']:.2f}" for key in ("min", "max"))]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def spread(found: dict[str, object], which: str) -> str:
    """``8.61 ± 0.23``."""
    deviation = found[f"{which} std"]
    return f"{found[f'{which} mean']:.2f}" + (f" ± {deviation:.2f}" if deviation != "" else "")
