"""What is drawn of runs: which metrics, over what, which part; as points, as a table and as CSV."""

from __future__ import annotations

import colorsys
import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot.logreader import FOLDER_LOGS
from mxnet_resnet.plot.run import ERRORS, PHASES, Run

AXES = {"epoch": "epoch", "hours": "hours of training", "images": "images trained on"}
LABELS = {"top1": "top-1 error (%)", "top5": "top-5 error (%)"}
# Those of matplotlib's `tab10`, in an order that sets neighbours apart, with black for its grey
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b", "#e377c2", "#bcbd22", "#111111")


@dataclass(frozen=True)
class View:
    """What to draw: metrics, each in a panel, over one of AXES, from the epoch ``first`` to ``last``."""

    metrics: tuple[str, ...]
    axis: str = "epoch"
    first: int = 0
    last: float = math.inf


@dataclass(frozen=True)
class Curve:
    """The points of a metric, and the epoch of each."""

    epochs: list[int]
    x: list[float]
    y: list[float]


def choose_metrics(runs: Sequence[Run], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The metrics to draw: those wanted, else top-1 error, and top-5 error where a log has it.

    Raises UserError where no log has one of these.
    """
    found = list(dict.fromkeys(name for run in runs for name in run.metrics()))
    if not found:
        names = ", ".join(dict.fromkeys(name for run in runs for name in run.names()))
        told = f"{names} is nan in every epoch" if names else "it tells no metric of an epoch"
        raise UserError(f"the log of {runs[0].name} has no curve in it: {told}")
    metrics = tuple(wanted or [name for name in ERRORS if name in found or name == ERRORS[0]])
    for name in metrics:
        if name not in found:
            of = runs[0].name if len(runs) == 1 else f"none of {len(runs)} runs"
            raise UserError(f"the log of {of} has no curve of {name} in it: --metric may be {', '.join(found)}")
    return metrics


def drawable(runs: Sequence[Run], view: View) -> tuple[list[Run], list[str]]:
    """The runs that have a curve of the metrics in the view, and a sentence on each of the others.

    Raises UserError where there is none.
    """
    kept, told = [], []
    for run in runs:
        try:
            if not set(view.metrics) & set(run.metrics()):
                there = ", ".join(run.metrics()) or "none"
                raise UserError(f"the log of {run.name} has no curve of {' or '.join(view.metrics)} in it, but {there}")
            part(run, view)
            kept.append(run)
        except UserError as error:
            told.append(str(error))
    if not kept:
        raise UserError(told[0])
    return kept, told


def told_apart(runs: Sequence[Run], paths: Sequence[Path]) -> None:
    """Put as much of their paths before names that are equal as sets them apart, or that of the file behind them where
    the folder is the same. Changes ``runs``.
    """
    placed = [(run.name, path.parent) for run, path in zip(runs, paths)]
    for run, path, place in zip(runs, paths, placed):
        if any(other != path for other, same in zip(paths, placed) if same == place):
            run.name += f" ({path.name})"
    for depth in range(1, max(len(path.resolve().parts) for path in paths)):
        names = [run.name for run in runs]
        if len({*names}) == len(names):
            return
        for run, path, name in zip(runs, paths, names):
            if all(other == path for other, same in zip(paths, names) if same == name):
                continue
            parts = path.resolve().parts[: -1 - (path.name in FOLDER_LOGS)]
            if len(parts) >= depth:
                run.name = f"{parts[-depth]}/{name}"


def rename(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Give each run its name. Changes ``runs``. Raises UserError where there are not as many."""
    if len(names) != len(runs):
        raise UserError(f"--names has {len(names)} names for {len(runs)} runs: {', '.join(run.name for run in runs)}")
    for run, name in zip(runs, names):
        run.name = name


def curve(run: Run, phase: str, metric: str, view: View) -> Curve:
    """The points of a metric in a phase. Raises UserError where the log does not tell of the axis."""
    place = _places(run, view.axis)
    points = [(epoch, value) for epoch, value in run.curve(phase, metric) if view.first <= epoch <= view.last]
    return Curve([epoch for epoch, _ in points], [place[epoch] for epoch, _ in points], [value for _, value in points])


def band(run: Run, phase: str, metric: str, points: Curve) -> tuple[list[float], list[float]]:
    """The (lower, upper) edges of the band around the points of a mean; none of a run that is none."""
    widths = [run.deviations.get((phase, metric, epoch)) for epoch in points.epochs]
    edges = [(y - width, y + width) for y, width in zip(points.y, widths) if width is not None]
    return [low for low, _ in edges], [high for _, high in edges]


def _places(run: Run, axis: str) -> dict[int, float]:
    """Where the end of each epoch lies on an axis; epochs themselves count from 0, as in the logs."""
    epochs = sorted(run.epochs)
    if axis == "epoch":
        return {epoch: epoch for epoch in epochs}
    if axis == "images":
        count = _images(run)
        return {epoch: (epoch + 1) * count for epoch in epochs}
    seconds = {epoch: run.epochs[epoch].seconds for epoch in epochs}
    known = [value for value in seconds.values() if value is not None and math.isfinite(value)]
    if not known:
        raise UserError(f"the log of {run.name} tells no time: draw it --over epoch")
    usual, hours, places = statistics.median(known), 0.0, {}
    for epoch, value in seconds.items():
        hours += (value if value is not None and math.isfinite(value) else usual) / 3600
        places[epoch] = hours
    return places


def _images(run: Run) -> float:
    """The images of an epoch, where need be from its speed."""
    if run.images:
        return run.images
    counts = [epoch.speed * epoch.seconds for epoch in run.epochs.values() if epoch.speed and epoch.seconds]
    counts = [count for count in counts if math.isfinite(count)]
    if not counts:
        raise UserError(f"the log of {run.name} does not tell how many images an epoch has: draw it --over epoch")
    return statistics.median(counts)


def rate_steps(run: Run, metric: str, view: View) -> tuple[Curve, list[str]]:
    """Points on the curve where the learning rate jumps, and what it is from there on."""
    drawn = curve(run, "validation", metric, view)
    if not drawn.epochs:
        drawn = curve(run, "train", metric, view)
    rates = dict(run.rate_steps())
    kept = [place for place, epoch in enumerate(drawn.epochs) if epoch in rates]
    steps = Curve(
        [drawn.epochs[place] for place in kept], [drawn.x[place] for place in kept], [drawn.y[place] for place in kept]
    )
    return steps, [f"learning rate {rates[epoch]:g}" for epoch in steps.epochs]


def colours(count: int) -> list[str]:
    """Colours for ``count`` logs, all different: chosen ones for some, around the circle of hues for many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    shades = [(0.42, 0.9), (0.3, 0.75), (0.55, 0.8)]
    found = [colorsys.hls_to_rgb(place / count, *shades[place % len(shades)]) for place in range(count)]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in found]


def summary(run: Run, metric: str = "top1") -> str:
    """``top-1 error 1.39% (best 1.11%)`` of the validation, or of the training, and so called, where none is told.

    A run that ends in NaN is told so, with the best value that it had.
    """
    phase, unit = run.judged(metric), "%" if metric in ERRORS else ""
    points, name = run.told(phase, metric), title(metric)
    if not points:
        return f"{name} is not told"
    (epoch, last), best = points[-1], best_point(run, metric)
    whose = "" if phase == "validation" else "training "
    ends = f"{last:.2f}{unit}" if math.isfinite(last) else f"nan in epoch {epoch}, the last"
    return f"{whose}{name} {ends} ({f'best {best[1]:.2f}{unit}' if best else 'never a number'})"


def title(metric: str) -> str:
    """``top-1 error``, what a metric is called in a sentence."""
    return LABELS.get(metric, metric).replace(" (%)", "")


def best_point(run: Run, metric: str) -> tuple[int, float] | None:
    """The first (epoch, value) where a metric is best: an accuracy high, all else low; None where it never is finite.

    Of the validation, or of the training where no validation is told.
    """
    points = run.curve(run.judged(metric), metric)
    return (max if "acc" in metric else min)(points, key=lambda point: point[1], default=None)


def seconds_an_epoch(run: Run) -> float | None:
    """The median time of an epoch's training."""
    known = [epoch.seconds for epoch in run.epochs.values() if epoch.seconds is not None]
    return statistics.median(known) if known else None


def images_a_second(run: Run) -> float | None:
    """The median speed of training, as the log tells it or from its times."""
    speeds = [epoch.speed for epoch in run.epochs.values() if epoch.speed]
    if not speeds and run.images:
        speeds = [run.images / epoch.seconds for epoch in run.epochs.values() if epoch.seconds]
    return statistics.median(speeds) if speeds else None


def table(runs: Sequence[Run], view: View) -> str:
    """A line a log and metric: the last and the best value of the validation with their epochs, time and speed."""
    rows: list[Sequence[str]] = [("log", "metric", "last", "epoch", "best", "epoch", "epochs", "s/epoch", "images/s")]
    for run in runs:
        seen = part(run, view)
        times = ((seconds_an_epoch(seen), ".1f"), (images_a_second(seen), ".0f"))
        ends = (str(len(seen.epochs)), *("-" if value is None else f"{value:{form}}" for value, form in times))
        for metric in view.metrics:
            phase = seen.judged(metric)
            if points := seen.told(phase, metric):
                (last_epoch, last), best = points[-1], best_point(seen, metric)
                values = (f"{last:.2f}", str(last_epoch), *((f"{best[1]:.2f}", str(best[0])) if best else ("-", "-")))
                whose = "" if phase == "validation" else ", training"
                rows.append((run.name, f"{LABELS.get(metric, metric)}{whose}", *values, *ends))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first two to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    forms = [f"{{:<{width}}}" if place < 2 else f"{{:>{width}}}" for place, width in enumerate(widths)]
    return "\n".join("  ".join(forms).format(*row) for row in rows)


def as_csv(runs: Sequence[Run], view: View) -> str:
    """A line a log, epoch and phase, with all metrics that any log has, and behind means their deviations."""
    names = list(dict.fromkeys(name for run in runs for name in run.metrics()))
    spread = [name for name in names if any(name == metric for run in runs for _, metric, _ in run.deviations)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["log", "epoch", "phase", "lr", "seconds", "images/s", *names, *(f"{name} std" for name in spread)])
    for run in runs:
        for number, epoch in sorted(part(run, view).epochs.items()):
            for phase in PHASES:
                if values := getattr(epoch, phase):
                    times = (epoch.seconds, epoch.speed) if phase == "train" else (None, None)
                    stds = (run.deviations.get((phase, name, number)) for name in spread)
                    cells = (epoch.rate, *times, *map(values.get, names), *stds)
                    told = ("" if cell is None else f"{cell:.6g}" for cell in cells)
                    writer.writerow([run.name, number, phase, *told])
    return text.getvalue()


def part(run: Run, view: View) -> Run:
    """The epochs that are seen. Raises UserError where there is none."""
    epochs = {number: epoch for number, epoch in run.epochs.items() if view.first <= number <= view.last}
    if not epochs:
        there = f"{min(run.epochs)} to {max(run.epochs)}"
        raise UserError(f"the log of {run.name} has no epoch from --from to --to: its epochs are {there}")
    return Run(run.name, epochs, run.images)
