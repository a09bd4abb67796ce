"""What the training loop costs beside the computation.

Trains the nets of --nets, each DEPTH:IMAGES, on batches that are in memory, by the loop of train_resnet.py and by bare
`forward_backward` and `update`, in turn, and prints images/s and their ratio, medians of --runs. Depths that ImageNet
has not are those of nets for CIFAR.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import ours
from benchmarks.common import Net, nets, spread, table, title, write_json
from benchmarks.prepared import mx
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.base.interruption import Wish
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.stored import StoredEpochs
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.engine import MXNetEngine
from mxnet_resnet.runs.ledger import Entry
from mxnet_resnet.runs.metrics import MetricsFile
from mxnet_resnet.runs.start import Start
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.train.loop import Loop, Surroundings

Steps = Callable[[list[Batch]], None]


def add_arguments(loop: argparse.ArgumentParser) -> None:
    loop.add_argument("--nets", type=nets, default="20:128,164:32", help="to train")
    loop.add_argument("--steps", type=integer(), default=60, help="of each run; --frequent 50 has a line in the log")
    loop.add_argument("--runs", type=integer(), default=5, help="of each way")
    loop.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    rows, figures = [], []
    for net in arguments.nets:
        bare, looped = compare(net, arguments.steps, arguments.runs)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(looped, bare))
        rows.append([title(net), spread(bare), spread(looped), f"{ratio:.1%}"])
        figures.append({"depth": net[0], "images": net[1], "bare": bare, "looped": looped})
    print(table(("net, images", "bare, images/s", "the loop, images/s", "ratio"), rows))
    if arguments.json:
        write_json(arguments.json, figures)


def compare(net: Net, steps: int, runs: int) -> tuple[list[float], list[float]]:
    """Images/s of some runs without and with the loop, in turn, each of the net and its optimizer."""
    settings = ours.describe_run(*net)
    engine, session = MXNetEngine(), ours.begin(settings)
    module, rate, graph = session.module, Schedule(0.01), session.module.symbol.tojson()
    around = Surroundings(engine, session, session.group, {}, StoredEpochs(), rate, graph, Wish(), MetricsFile(None))
    loop = Loop(settings, around, Start(Entry("benchmark")))

    def bare(batches: list[Batch]) -> None:
        for _ in batches:
            module.forward_backward(data)
            module.update()

    def looped(batches: list[Batch]) -> None:
        for _ in loop._train_batches(batches, time.time()):
            pass

    batches = [ours.a_batch(settings)] * steps
    data = as_data_batch(batches[0])
    speed(looped, batches)  # the first steps choose kernels and allocate
    pairs = [(speed(bare, batches), speed(looped, batches)) for _ in range(runs)]
    return tuple(zip(*pairs))


def speed(train: Steps, batches: list[Batch]) -> float:
    """Images/s."""
    started = time.perf_counter()
    train(batches)
    mx.nd.waitall()
    return sum(batch.count for batch in batches) / (time.perf_counter() - started)
