"""Images/s of several ways to train, or to predict, side by side.

Each run of a way is a process of its own, which warms up and then computes a batch of random images in memory again and
again, for --seconds and three times at least; the ways take turns, --rounds times. Nets are DEPTH:IMAGES; depths that
ImageNet has not are those of nets for CIFAR. GFLOP/s are the medians times the operations of our net, two a
multiply-add, in training three times as many, for the gradients of images and weights: `peak` tells what the machine
reaches.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

from benchmarks import ours
from benchmarks.common import INSTALL, Net, nets, spread, table, tell_left_out, title, write_json
from benchmarks.way import TASKS, Way, measure
from mxnet_resnet import engines
from mxnet_resnet.base import environment
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.commands.model_table import multiply_adds

OURS = "ours-"


def add_arguments(command: argparse.ArgumentParser, task: str) -> None:
    default = {"train": "20:128,164:128,50:32", "infer": "20:128,164:128,50:32,50:1"}[task]
    command.add_argument("--nets", type=nets, default=default, help="to compute")
    command.add_argument("--compare", action="store_true", help="with all peers that are installed, too")
    command.add_argument("--ways", help=f"these alone, of {', '.join(TASKS[task])}")
    command.add_argument("--seconds", type=integer(), default=3, help="of each run")
    command.add_argument("--rounds", type=integer(), default=3, help="of all ways")
    command.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace, task: str) -> int:
    """Status 1 where a way failed, which is told and left out."""
    for net in arguments.nets:
        ours.describe_run(*net)  # refuses a net that there is not, before hours are spent on the others
    ways = chosen(TASKS[task], arguments.ways, arguments.compare)
    plan = {net: possible(ways, net, named=arguments.ways is not None) for net in arguments.nets}
    for way in ways.values():
        tell_left_out(way.title, way.lacks())
    found_on = {**conditions(), "seconds": arguments.seconds}
    figures, failed = [], False
    with tqdm(total=arguments.rounds * sum(map(len, plan.values())), unit="run", disable=None) as bar:
        for net, names in plan.items():
            found, failures = measured(task, net, names, arguments, bar)
            for failure in failures:
                bar.write(f"left out: {failure}", sys.stderr)
            failed = failed or bool(failures)
            if found:
                heading = f"{title(net)} images, images/s: medians (lowest to highest) of {arguments.rounds} rounds"
                bar.write(f"\n{heading}\n\n{report(ways, found, gigaflop(net, task), memory=task == 'train')}")
            figures.append({"depth": net[0], "images": net[1], **found})
            if arguments.json:
                write_json(arguments.json, {"environment": found_on, "nets": figures})
    return int(failed)


def measured(
    task: str, net: Net, names: Sequence[str], arguments: argparse.Namespace, bar: tqdm
) -> tuple[dict[str, list[dict]], list[UserError]]:
    """The runs of each way, in turn, and why others failed."""
    found: dict[str, list[dict]] = {name: [] for name in names}
    failures = []
    for _ in range(arguments.rounds):
        for name in list(found):
            try:
                found[name].append(measure(f"{task}:{name}", net, arguments.seconds))
            except UserError as error:
                failures.append(error)
                del found[name]
            bar.update()
    return found, failures


def possible(ways: dict[str, Way], net: Net, named: bool) -> list[str]:
    """The names of those ways that are here. Raises UserError for one that is not and was ``named``, and for none."""
    here = [name for name, way in ways.items() if way.goes(net[0])]
    missing = [way for name, way in ways.items() if name not in here]
    if missing and (named or not here):
        reason = "; ".join(missing[0].lacks()) or f"that cannot compute {title(net)} here"
        raise UserError(f"{missing[0].title}: {reason}")
    return here


def chosen(ways: dict[str, Way], names: str | None, compare: bool) -> dict[str, Way]:
    """Ours, those of a list, or all. Raises UserError for a name that there is not."""
    if names is None:
        return {name: way for name, way in ways.items() if compare or name.startswith(OURS)}
    unknown = [name for name in names.split(",") if name not in ways]
    if unknown:
        raise UserError(f"there is no way {unknown[0]}: there are {', '.join(ways)}")
    return {name: ways[name] for name in names.split(",")}


def conditions() -> dict[str, str]:
    """What figures may depend on: versions, those of the peers that are installed among them, and the processor."""
    peers = {}
    for package in INSTALL:
        with suppress(metadata.PackageNotFoundError):
            peers[package] = metadata.version(package)
    processor = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return {
        **environment.versions(),
        **engines.choose().versions(),
        **peers,
        "Processor": processor.group(1) if processor else "unknown",
    }


def gigaflop(net: Net, task: str) -> float:
    """Those of an image through our net, its gradients included in training."""
    settings = ours.describe_run(*net)
    forward = 2 * multiply_adds(ours.model_of(settings).net, settings.data.image_shape[1]) / 1e9
    return 3 * forward if task == "train" else forward


def report(ways: dict[str, Way], found: dict[str, list[dict]], work: float, memory: bool = True) -> str:
    """A row a way: images/s, how many times those of the first way it is, by round, GFLOP/s, and ``memory``.

    Prediction has no memory: making the net takes more than predicting.
    """
    reference = [run["images/s"] for run in next(iter(found.values()))]
    rows = []
    for name, runs in found.items():
        speeds = [run["images/s"] for run in runs]
        ratio = statistics.median(own / other for own, other in zip(speeds, reference))
        peak = [f"{statistics.median(run['MB'] for run in runs):,.0f}"] if memory else []
        rate = statistics.median(speeds) * work
        rows.append([ways[name].title, spread(speeds), f"{ratio:.2f}", f"{rate:,.0f}", *peak])
    return table(("", "images/s", "of the first", "GFLOP/s", *(["peak MB"] if memory else [])), rows)
