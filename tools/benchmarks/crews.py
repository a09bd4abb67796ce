"""Threads and processes that load batches.

Reads records made from the photographs in --images (two of scikit-learn's without it) by threads and by as many
processes, in turn, and prints images/s, medians of --runs epochs, with the ratios by round; the processes are there
before, as in all epochs of a run but the first. Then it tells how much memory each way takes over three epochs, in a
fresh process that does nothing but read.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import in_process, read_memory, table
from benchmarks.io import WORKLOADS, Workload, image_files, write_records
from mxnet_resnet.base.arguments import integer, integers
from mxnet_resnet.base.environment import cores
from mxnet_resnet.data import recordio
from mxnet_resnet.data.processes import Processes
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.data.transform import read_image

EPOCHS = 3  # of which the memory is told


def add_arguments(crews: argparse.ArgumentParser) -> None:
    crews.add_argument("--images", type=Path, help="folder of photographs")
    crews.add_argument("--count", type=integer(), default=2000, help="records a file")
    crews.add_argument("--numbers", type=integers, default=[1, cores()], help="of threads and of processes")
    crews.add_argument("--batch-size", type=integer(), default=64)
    crews.add_argument("--runs", type=integer(), default=5, help="of each way")


def main(arguments: argparse.Namespace) -> None:
    photographs = [read_image(path) for path in image_files(arguments.images)]
    rows: list[list[str]] = []
    remembered: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, workload in enumerate(WORKLOADS[:3]):
            path = write_records(Path(folder), workload, photographs, arguments.count)
            rows += [compare(path, workload, count, arguments) for count in arguments.numbers]
            if number == 1:
                remembered = [remember(path, workload, way, arguments) for way in ("threads", "processes")]
    print(f"images/s, medians of {arguments.runs} epochs in turn, batches of {arguments.batch_size}\n")
    print(table(["", "threads or processes", "threads", "processes", "ratio"], rows))
    print(f"\n{WORKLOADS[1].name}: MB at most in each epoch, {max(arguments.numbers)} threads or processes\n")
    epochs = [f"epoch {epoch}" for epoch in range(EPOCHS)]
    print(table(["", *epochs, "of it shared memory"], remembered))


def training(path: Path, workload: Workload, batch_size: int, threads: int, crew: Processes | None) -> TrainingRecords:
    """What is read."""
    shape = (3, workload.crop, workload.crop)
    given = (path, recordio.scan(path), shape, batch_size, workload.preset, workload.pad, True, 0)
    return TrainingRecords(*given, threads=threads, crew=crew)


def compare(path: Path, workload: Workload, number: int, arguments: argparse.Namespace) -> list[str]:
    """A row of the table: so many threads beside so many processes."""
    values: dict[str, list[float]] = {"threads": [], "processes": []}
    with Processes(number) as crew:
        for run in range(arguments.runs + 1):  # the first, in which processes start, does not count
            for name, who in (("threads", None), ("processes", crew)):
                records = training(path, workload, arguments.batch_size, number, who)
                started = time.perf_counter()
                images = sum(batch.count for batch in records.epoch(run))
                values[name] += [images / (time.perf_counter() - started)] * bool(run)
    ratio = statistics.median(ours / theirs for theirs, ours in zip(*values.values()))
    speeds = [f"{statistics.median(found):,.0f}" for found in values.values()]
    return [workload.name, str(number), *speeds, f"{ratio:.2f}"]


def remember(path: Path, workload: Workload, way: str, arguments: argparse.Namespace) -> list[str]:
    """A row of the table of memory."""
    found = in_process(measure_memory, path, workload, way, arguments.batch_size, max(arguments.numbers))
    return [way, *(f"{resident:,.0f}" for resident, _ in found), f"{max(shared for _, shared in found):,.0f}"]


def measure_memory(path: Path, workload: Workload, way: str, batch_size: int, number: int) -> list[tuple[float, float]]:
    """The most memory of each epoch, (resident, shared) in MB, this process and those that it starts together."""
    with Processes(number) as processes:
        records = training(path, workload, batch_size, number, processes if way == "processes" else None)
        return [max(read_memory() for _ in records.epoch(epoch)) for epoch in range(EPOCHS)]
