"""The readers of records.

Reads records made from the photographs in --images (two of scikit-learn's without it) by the ImageRecordIter call of
the MXNet ResNet-v2 repository and by this project's reader, in turn, on the same file and cores, and prints medians and
their spread. "Limit" is what the cores decode with OpenCV and nothing else. Then it tells how our reader scales with
threads, and how long a ResNet-18 that trains on this machine waits for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.common import write_json
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.decoding import decode_bgr
from mxnet_resnet.data.transform import check_sides, read_image, sides_for
from mxnet_resnet.data.writer import RecordWriter

QUALITY = 90
CIFAR_SIDE = 32
BATCH_SIZE = 32


@dataclass(frozen=True)
class Workload:
    """One way to read: the short side of the stored images, the crop, and what the original call draws."""

    name: str
    stored: int
    crop: int
    level: int
    pad: int = 0

    @property
    def preset(self) -> augment.Augmentation:
        return augment.level(self.level, small_images=self.stored == CIFAR_SIDE)


WORKLOADS = (
    Workload("level 1, 256-pixel records", 256, 224, 1),
    Workload("level 2, 480-pixel records", 480, 224, 2),
    Workload("level 3, 480-pixel records", 480, 224, 3),
    Workload("CIFAR", CIFAR_SIDE, CIFAR_SIDE, 1, pad=4),
)


SCALED = WORKLOADS[1]
TRAINING_STEPS = 5


def add_arguments(io: argparse.ArgumentParser) -> None:
    io.add_argument("--images", type=Path, help="folder of photographs")
    io.add_argument("--count", type=integer(), default=2000, help="records a file")
    io.add_argument("--runs", type=integer(), default=5, help="of each reader")
    io.add_argument("--threads", type=integer(high=1024), help="threads of our reader (one a core)")
    io.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    photographs = [read_image(path) for path in image_files(arguments.images)]
    threads = arguments.threads or cores()
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for workload in tqdm(WORKLOADS, "workloads", disable=None):
            path = write_records(Path(folder), workload, photographs, arguments.count)
            results.append(measure(workload, path, arguments.runs, threads))
            if workload is SCALED:
                scaling = scale(workload, path, arguments.runs, sorted({1, 2, threads, 2 * threads}))
                wait, total = training_wait(workload, path, threads)
    print(table(results, threads))
    print(f"\n{SCALED.name}, images/s by threads: " + ", ".join(f"{n}: {figure:,.0f}" for n, figure in scaling.items()))
    print(f"ResNet-18 training waited {wait:.2f} of {total:.1f} seconds for its batches.")
    if arguments.json:
        figures = {"io": results, "scaling": scaling, "training": {"wait": wait, "seconds": total}}
        write_json(arguments.json, figures)


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


def measure(workload: Workload, path: Path, runs: int, threads: int) -> dict[str, object]:
    """Images/s of each reader over an epoch, the readers in turn: medians, and all values."""
    summary = recordio.scan(path)
    readers = {
        "ImageRecordIter": lambda: original(workload, path),
        "ours": lambda: ours(workload, path, summary, threads),
    }
    values: dict[str, list[float]] = {name: [] for name in (*readers, "limit")}
    for _ in range(runs):
        for name, reader in readers.items():
            values[name].append(speed(reader, summary.count))
        values["limit"].append(limit(path, summary, threads))
    medians = {name: statistics.median(figures) for name, figures in values.items()}
    return {"workload": workload.name, "threads": threads, "medians": medians, "values": values}


def speed(reader: Callable[[], Iterator], count: int) -> float:
    """Images/s from the call of the reader to its last batch."""
    started = time.perf_counter()
    for _ in reader():
        pass
    return count / (time.perf_counter() - started)


def original(workload: Workload, path: Path) -> Iterator:
    """The call in the MXNet ResNet-v2 repository."""
    from benchmarks.prepared import mx

    for batch in mx.io.ImageRecordIter(
        path_imgrec=str(path),
        label_width=1,
        data_name="data",
        label_name="softmax_label",
        data_shape=(3, workload.crop, workload.crop),
        batch_size=BATCH_SIZE,
        pad=workload.pad,
        fill_value=127,
        rand_crop=True,
        rand_mirror=True,
        shuffle=True,
        verbose=False,
        **dataclasses.asdict(workload.preset),
    ):
        batch.data[0].wait_to_read()
        yield batch


def ours(workload: Workload, path: Path, summary: recordio.Summary, threads: int) -> Iterator:
    """The reader of train_resnet.py."""
    from mxnet_resnet.data.reader import TrainingRecords

    shape = (3, workload.crop, workload.crop)
    training = TrainingRecords(
        path, summary, shape, BATCH_SIZE, workload.preset, workload.pad, mirror=True, seed=0, threads=threads
    )
    return training.epoch(0)


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
        return statistics.median(
            speed(lambda: ours(workload, path, summary, number), summary.count) for _ in range(runs)
        )

    return {number: median(number) for number in threads}


def training_wait(workload: Workload, path: Path, threads: int) -> tuple[float, float]:
    """The seconds that some steps of training ResNet-18 waited for their batches, and those that they took."""
    from benchmarks.ours import describe_run, training_step
    from mxnet_resnet.data.reader import Waiting
    from mxnet_resnet.engines.mxnet.batches import as_data_batch

    step = training_step(describe_run(18, BATCH_SIZE, image_shape=(3, workload.crop, workload.crop)))
    waiting = Waiting(ours(workload, path, recordio.scan(path), threads))
    started = time.perf_counter()
    for batch in islice(waiting, TRAINING_STEPS):
        step(as_data_batch(batch))
    return waiting.seconds, time.perf_counter() - started


def table(results: Sequence[dict], threads: int) -> str:
    """The figures as Markdown."""
    runs = len(results[0]["values"]["ours"])
    lines = [
        f"Images/s, medians (lowest to highest) of {runs} runs in turn, {threads} threads.",
        "",
        "| | ImageRecordIter | ours | ours / ImageRecordIter | limit | share of it |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        shown = {name: f"{median:,.0f}" for name, median in result["medians"].items()}
        for name, figures in result["values"].items():
            shown[name] += f" ({min(figures):,.0f} to {max(figures):,.0f})"
        theirs, own, most = (result["medians"][name] for name in ("ImageRecordIter", "ours", "limit"))
        cells = [result["workload"], shown["ImageRecordIter"], shown["ours"], f"{own / theirs:.2f}", shown["limit"]]
        lines.append(f"| {' | '.join(cells)} | {own / most:.0%} |")
    return "\n".join(lines)
