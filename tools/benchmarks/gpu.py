"""A GPU: this engine against torch-resnet as its example trains and at its best, and against MXNet where it can run.

Our training is train_resnet.py itself on records of synthetic images: its data, metrics and log count, its first epoch,
which has the start, does not. It is compiled, as --compile auto does in runs of more than a minute. Several seeds are
one command, --seeds; the images of all of them count.

torch-resnet trains and predicts one batch in memory again and again: as its example does (float16 by autocast, scaled
gradients; several seeds one after the other, as fast as one), and at its best (bfloat16, channels last, compiled, the
whole step as one CUDA graph; several seeds are as many nets on streams of one graph). These processes and our
prediction get ready side by side, and are measured one at a time. Prediction is from images in main memory to scores.

Nets are DEPTH:IMAGES of PreActResNets: 50, 101, 152 and 200 are for 224 px, and trained with one seed, which fills a
GPU; all others are for CIFAR. What there is no time for is named.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import gpu_runs
from benchmarks.common import Net, nets, not_installed, tell_left_out
from benchmarks.gpu_board import TRAINING, Board
from benchmarks.gpu_machine import describe_machine, find_mxnet_hindrances
from benchmarks.gpu_nets import LARGE, Records, count_images, data_type, describe_run, write_records
from benchmarks.gpu_runs import Run
from benchmarks.gpu_ways import REFERENCES, WAYS, measure_ways
from mxnet_resnet.base import files
from mxnet_resnet.base.arguments import integer, integers, number
from mxnet_resnet.base.errors import UserError

COMPILATIONS = {"yes": "compiled", "no": "not compiled", "max-autotune": "compiled by max-autotune"}

NO_INSTALLATION = "it is Python alone, so that PYTHONPATH=THE_FOLDER_THAT_HOLDS_IT will do"
TO_END = 5  # seconds that are kept for the tables

Job = Callable[[], None]


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--nets", type=nets, default="20:128,50:256,18:128,164:128", help="to compute, in this order")
    command.add_argument("--seeds", type=integers, default="1,5", help="how many are trained at once")
    command.add_argument("--compile", default="yes,no", help=f"our training, of {', '.join(COMPILATIONS)}")
    command.add_argument("--max-minutes", type=number(0.1), default=6.0, help="that all of it may take")
    command.add_argument("--seconds", type=integer(), default=2, help="of each measurement but of our training")
    command.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: to try this out, without graphs")
    command.add_argument("--json", type=Path, help="write the figures here too")
    command.add_argument("--markdown", type=Path, help="write the tables here too")


def main(arguments: argparse.Namespace) -> int:
    """Status 1 where something failed, which is told and left out."""
    check(arguments)
    machine = describe_machine(arguments.device)
    if arguments.device == "gpu" and not machine.get("GPU"):
        raise UserError("PyTorch has no GPU here: --device cpu tries this out without one")
    board = Board(time.perf_counter() + 60 * arguments.max_minutes - TO_END, REFERENCES)
    missing = not_installed(sorted({package for way in WAYS for package in way.needs}))
    tell_left_out("torch-resnet", [*missing, NO_INSTALLATION] if missing else [])
    with tempfile.TemporaryDirectory() as folder:
        for job in list_jobs(arguments, board, Path(folder)):
            job()
            board.write(machine, arguments.json, arguments.markdown)
    print(f"\n{board.report()}")
    return int(bool(board.failed))


def check(arguments: argparse.Namespace) -> None:
    """Raise UserError for nets, seeds, compilations and files that there cannot be, before anything is measured."""
    for net in arguments.nets:
        describe_run(net, [])
    if not arguments.seeds or 0 in arguments.seeds:
        raise UserError("--seeds wants numbers of seeds from 1 on, such as 1,5")
    for name in arguments.compile.split(","):
        if name not in COMPILATIONS:
            raise UserError(f"--compile {name}: there are {', '.join(COMPILATIONS)}")
    for path in filter(None, (arguments.json, arguments.markdown)):
        files.check_writable(path)


def list_jobs(arguments: argparse.Namespace, board: Board, folder: Path) -> Iterator[Job]:
    """What is to be measured, in the order of what it tells."""
    device, (compilation, *others) = arguments.device, arguments.compile.split(",")
    train = partial(measure_training, board, folder)
    for net in arguments.nets:
        seeds = [1] if net[0] in LARGE else arguments.seeds
        yield partial(train, Run(net, seeds[0], device=device, compilation=compilation))
        yield partial(measure_ways, board, net, seeds, device, arguments.seconds)
        for several in seeds[1:]:
            yield partial(train, Run(net, several, device=device, compilation=compilation))
    hindrances = find_mxnet_hindrances(device)
    tell_left_out("MXNet", hindrances)
    for net in arguments.nets if not hindrances else ():
        yield partial(train, Run(net, 1, "mxnet", device, "float16", ""))
    for other in others:
        for net in arguments.nets:
            yield partial(train, Run(net, 1, device=device, compilation=other))


def measure_training(board: Board, folder: Path, run: Run) -> None:
    """Ours, by train_resnet.py, in a folder of its own."""
    compiled = COMPILATIONS.get(run.compilation, "MXNet")
    name = f"ours, {run.dtype}, {compiled}"

    def compute(seconds: float) -> dict[str, float]:
        records = make_records(folder, run.net)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            return gpu_runs.measure(run, name, records, Path(own), seconds)

    board.measure(run.net, TRAINING, name, run.seeds, compute)


def make_records(folder: Path, net: Net) -> Records:
    """Records for a net, made once."""
    count = count_images(net)
    own = folder / f"{data_type(net[0])}-{count}"
    return Records(own / "train.rec", own / "val.rec") if own.exists() else write_records(own, net, count)
