"""The readers of records.

Reads records made from the photographs in --images (two of scikit-learn's without it) by the ImageRecordIter call of
the MXNet ResNet-v2 repository and by this project's reader, in turn, on the same file and cores, and prints medians and
their spread. "Limit" is what the cores decode with OpenCV and nothing else. --compare reads with torchvision and NVIDIA
DALI too, where they are installed. Then it tells how our reader scales with threads, how much memory a process takes
that does nothing but read, and how long a ResNet-18 that trains on this machine waits for its batches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks import common, io_readers
from benchmarks.io_readers import BATCH_SIZE, CIFAR_SIDE, WORKLOADS, Reader, Workload
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.decoding import decode_bgr
from mxnet_resnet.data.transform import check_sides, read_image, sides_for
from mxnet_resnet.data.writer import RecordWriter

QUALITY = 90
SCALED = WORKLOADS[1]
TRAINING_STEPS = 5
EPOCHS = 3  # of which the memory is told
WATCHED = 8  # batches between two looks at the memory


def add_arguments(io: argparse.ArgumentParser) -> None:
    io.add_argument("--images", type=Path, help="folder of photographs")
    io.add_argument("--compare", action="store_true", help="with all readers that are installed, too")
    io.add_argument("--count", type=integer(), default=2000, help="records a file")
    io.add_argument("--runs", type=integer(), default=5, help="of each reader")
    io.add_argument("--threads", type=integer(high=1024), help="threads of our reader (one a core)")
    io.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    photographs = [read_image(path) for path in image_files(arguments.images)]
    threads = arguments.threads or cores()
    with tempfile.TemporaryDirectory() as folder:
        results, memory = [], {}
        for workload in tqdm(WORKLOADS, "workloads", disable=None):
            path = write_records(Path(folder), workload, photographs, arguments.count)
            results.append(measure(workload, path, arguments.runs, threads, arguments.compare))
            memory[workload.name] = common.in_process(measure_memory, workload, path, threads)
            if workload is SCALED:
                scaling = scale(workload, path, arguments.runs, sorted({1, 2, threads, 2 * threads}))
                wait, total = training_wait(workload, path, threads)
    print(make_table(results, threads))
    print(f"\n{SCALED.name}, images/s by threads: " + ", ".join(f"{n}: {figure:,.0f}" for n, figure in scaling.items()))
    print(f"\n{tell_memory(memory)}\n")
    print(f"ResNet-18 training waited {wait:.2f} of {total:.1f} seconds for its batches.")
    if arguments.json:
        training = {"wait": wait, "seconds": total}
        figures = {"io": results, "scaling": scaling, "memory": memory, "training": training}
        common.write_json(arguments.json, figures)


def image_files(folder: Path | None) -> list[Path]:
    """The files to measure with."""
    if folder is None:
        from sklearn.datasets import load_sample_images

        return [Path(name) for name in load_sample_images().filenames]
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not files:
        raise UserError(f"there are no images in {folder}")
    return files


def write_records(folder: Path, workload: Workload, photographs: Sequence[np.ndarray], count: int) -> Path:
    """Records of the stored size: JPEGs of quality 90, or PNGs of centre squares for CIFAR."""
    prefix = folder / f"{workload.stored}-{workload.level}"
    encoded = [encode(image, workload.stored) for image in photographs]
    with RecordWriter(prefix) as writer:
        for key, image in enumerate(islice(cycle(encoded), count)):
            writer.write(key, 0.0, image, f"{key}")
    return prefix.with_name(f"{prefix.name}.rec")


def encode(image: np.ndarray, short: int) -> bytes:
    """An RGB image with its short side at ``short``, encoded."""
    height, width = image.shape[:2]
    size = sides_for(height, width, short)
    check_sides(size)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    if short == CIFAR_SIDE:
        return cv2.imencode(".png", small[:short, :short])[1].tobytes()
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def measure(workload: Workload, path: Path, runs: int, threads: int, compare: bool) -> dict[str, Any]:
    """Images/s of each reader over an epoch, the readers in turn: medians, all values, and our part of the others'."""
    summary = recordio.scan(path)
    readers = io_readers.make_readers(workload, path, threads, compare)
    values: dict[str, list[float]] = {name: [] for name in (*readers, "limit")}
    for _ in range(runs):
        for name, reader in readers.items():
            values[name].append(speed(reader, summary.count))
        values["limit"].append(limit(path, summary, threads))
    medians = {name: statistics.median(figures) for name, figures in values.items()}
    ratios = {
        name: statistics.median(own / other for own, other in zip(values["ours"], figures))
        for name, figures in values.items()
    }
    return {"workload": workload.name, "threads": threads, "medians": medians, "values": values, "ratios": ratios}


def speed(reader: Reader, count: int) -> float:
    """Images/s from the call of the reader to its last batch."""
    started = time.perf_counter()
    for _ in reader():
        pass
    return count / (time.perf_counter() - started)


def measure_memory(workload: Workload, path: Path, threads: int) -> list[tuple[float, float]]:
    """The most MB, resident and shared, in each of some epochs of our reader, of this process and those it started."""
    reader, found = io_readers.make_ours(workload, path, threads), []
    for _ in range(EPOCHS):
        found.append(max(common.read_memory() for number, _ in enumerate(reader()) if number % WATCHED == 0))
    return found


def limit(path: Path, summary: recordio.Summary, threads: int) -> float:
    """Images/s that the threads decode, and do nothing else with."""
    records = recordio.RecordFile(path, summary.offsets)
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda number: decode_bgr(records.read(number).image).size, range(summary.count)):
            pass
        return summary.count / (time.perf_counter() - started)


def scale(workload: Workload, path: Path, runs: int, threads: Sequence[int]) -> dict[int, float]:
    """Images/s of our reader by its number of threads: medians."""
    summary = recordio.scan(path)

    def median(number: int) -> float:
        reader = io_readers.make_ours(workload, path, number)
        return statistics.median(speed(reader, summary.count) for _ in range(runs))

    return {number: median(number) for number in threads}


def training_wait(workload: Workload, path: Path, threads: int) -> tuple[float, float]:
    """The seconds that some steps of training ResNet-18 waited for their batches, and those that they took."""
    from benchmarks.ours import describe_run, training_step
    from mxnet_resnet.data.reader import Waiting
    from mxnet_resnet.engines.mxnet.batches import as_data_batch

    step = training_step(describe_run(18, BATCH_SIZE, image_shape=(3, workload.crop, workload.crop)))
    waiting = Waiting(io_readers.make_ours(workload, path, threads)())
    started = time.perf_counter()
    for batch in islice(waiting, TRAINING_STEPS):
        step(as_data_batch(batch))
    return waiting.seconds, time.perf_counter() - started


def make_table(results: Sequence[dict[str, Any]], threads: int) -> str:
    """The figures as Markdown."""
    runs = len(results[0]["values"]["ours"])
    names = [name for name in results[0]["values"] if name != "limit"]
    others = [name for name in names if name != "ours"]
    rows = []
    for result in results:
        cells = [common.spread(result["values"][name], ",.0f") for name in (*names, "limit")]
        ratios = [f"{result['ratios'][name]:.2f}" for name in others]
        rows.append([result["workload"], *cells[:-1], *ratios, cells[-1], f"{result['ratios']['limit']:.0%}"])
    heads = ["", *names, *(f"ours / {name}" for name in others), "limit", "share of it"]
    told = f"Images/s, medians (lowest to highest) of {runs} runs in turn, {threads} threads; ratios by round."
    return f"{told}\n\n{common.table(heads, rows)}"


def tell_memory(memory: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The memory of reading as Markdown."""
    heads = ["Reading alone, MB resident (of them shared)", *(f"epoch {number}" for number in range(EPOCHS))]
    rows = [[name, *(f"{own:,.0f} ({shared:,.0f})" for own, shared in figures)] for name, figures in memory.items()]
    return common.table(heads, rows)
