"""How the time of a step and its memory grow with depth, images and width.

Trains nets for CIFAR, in float32, each in a process of its own: of --depths with 32 images, with --images images at
depth 20, and of --widths at depth 20 with 32 images. Memory is what MXNet plans for activations where it shares blocks
as with --memonger. The exponent of a law (cost = factor * size ** exponent) is fitted to the larger half of the sizes,
where constant costs matter less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import ours
from benchmarks.common import in_process, save, spread, table, write_json
from mxnet_resnet.base.arguments import integer, integers
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.memory import memonger
from mxnet_resnet.settings.sections import RunSettings

DEPTH, IMAGES = 20, 32


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--depths", type=integers, default="20,56,110,164,326,650,1001", help="to train")
    command.add_argument("--images", type=integers, default="1,2,4,8,16,32,64,128,256", help="of a batch")
    command.add_argument("--widths", type=integers, default="1,2,3,4,6,8", help="factors on the channels")
    command.add_argument("--rounds", type=integer(), default=5, help="steps of each")
    command.add_argument("--json", type=Path, help="write the figures here too")
    command.add_argument("--out", type=Path, help="the picture to draw")


def main(arguments: argparse.Namespace) -> None:
    sizes = {"depth": arguments.depths, "images": arguments.images, "width": arguments.widths}
    for axis, of in sizes.items():
        if len(of) < 3:
            raise UserError(f"a law of {axis} needs three sizes or more, not {len(of)}")
        for size in of:
            settings_of(axis, size)  # refuses a size that cannot be, before the others are measured
    figures: dict[str, list[dict]] = {axis: [] for axis in sizes}
    with tqdm(total=sum(map(len, sizes.values())), disable=None) as bar:
        for axis, of in sizes.items():
            for size in sorted(of):
                figures[axis].append(in_process(measured, axis, size, arguments.rounds))
                bar.update()
    for axis, found in figures.items():
        print(report(axis, found), end="\n\n")
    if arguments.json:
        write_json(arguments.json, figures)
    if arguments.out:
        draw(figures, arguments.out)


def measured(axis: str, size: int, rounds: int) -> dict:
    """Seconds of steps, and planned MB."""
    settings = settings_of(axis, size)
    step = ours.training_step(settings)
    step(), step()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    graph, images = ours.model_of(settings).executed, settings.batch_size
    shapes = {"data": (images, *settings.data.image_shape), "softmax_label": (images,)}
    with memonger.packing():
        return {"size": size, "seconds": seconds, "MB": memonger.bound_megabytes(graph, shapes)}


def settings_of(axis: str, size: int) -> RunSettings:
    """The run with that size. Raises UserError where there is no such net or batch."""
    depth, images = (size if axis == name else default for name, default in (("depth", DEPTH), ("images", IMAGES)))
    return ours.describe_run(depth, images, width=size if axis == "width" else None)


def law(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """The exponent, and the factor, of the power law through the larger half of the sizes, by least squares of logs."""
    exponent, logarithm = np.polyfit(np.log(larger_half(sizes)), np.log(larger_half(costs)), 1)
    return float(exponent), float(np.exp(logarithm))


def larger_half(values: Sequence[float]) -> Sequence[float]:
    """Those that a law is fitted to: of small sizes constant costs show."""
    return values[len(values) // 2 :]


def costs(found: Sequence[dict]) -> tuple[list[int], list[float], list[float]]:
    """The sizes, the medians of their seconds, and their MB."""
    sizes = [figures["size"] for figures in found]
    return sizes, [statistics.median(figures["seconds"]) for figures in found], [figures["MB"] for figures in found]


def report(axis: str, found: Sequence[dict]) -> str:
    """A row a size, and the exponents."""
    sizes, seconds, memory = costs(found)
    times = [spread([1000 * time for time in figures["seconds"]]) for figures in found]
    rows = [[f"{size:,}", time, f"{amount:,}"] for size, time, amount in zip(sizes, times, memory)]
    powers = ["exponent", f"{law(sizes, seconds)[0]:.2f}", f"{law(sizes, memory)[0]:.2f}"]
    return table((axis, "ms a step: median (lowest to highest)", "MB planned"), [*rows, powers])


def draw(figures: dict[str, list[dict]], out: Path) -> None:
    """A column an axis, time above memory, all logarithmic, and the laws over the sizes that they are fitted to."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, len(figures), sharex="col")
    titles = {"depth": f"{IMAGES} images", "images": f"ResNet-{DEPTH}", "width": f"ResNet-{DEPTH}, {IMAGES} images"}
    for column, (axis, found) in enumerate(figures.items()):
        sizes, seconds, memory = costs(found)
        for row, (values, label) in enumerate(((seconds, "s a step"), (memory, "MB planned"))):
            axes = panels[row][column]
            exponent, factor = law(sizes, values)
            fitted = np.array(larger_half(sizes), float)
            axes.plot(fitted, factor * fitted**exponent, "--", color="0.6", label=f"{axis}$^{{{exponent:.2f}}}$")
            axes.plot(sizes, values, "o", color=("C0", "C1")[row])
            axes.set(xscale="log", yscale="log", ylabel=label if not column else "")
            axes.set_xticks(sizes, [str(size) for size in sizes], fontsize="small")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3, which="both")
            axes.legend()
        panels[0][column].set_title(titles[axis], fontsize="medium")
        panels[1][column].set_xlabel(axis)
    save(figure, out)
