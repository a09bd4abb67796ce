"""How long a record file of many records is looked at before the first batch, and what memory that takes.

Writes a file of --count tiny records to --folder, and reads the first batch of an epoch in a fresh process: once where
nothing is known of the file, once with what was then kept beside it. The file is removed at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import ROOT, table
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.data.recordio import IMAGE_HEADER, MAGIC, RECORD_HEADER

BLOCK = 1 << 18  # records that are written at a time
READ = """
import sys, time
from pathlib import Path
started = time.perf_counter()
from mxnet_resnet.base.environment import memory
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.reader import TrainingRecords
path = Path(sys.argv[1])
summary = recordio.scan(path)
looked = time.perf_counter()
records = TrainingRecords(path, summary, (3, 32, 32), 256, augment.LEVELS[2], 0, True, seed=0)
next(records.epoch(0))
ended = time.perf_counter()
print(looked - started, ended - looked, *memory().values(), summary.digest)
"""


def add_arguments(size: argparse.ArgumentParser) -> None:
    size.add_argument("--count", type=integer(), default=12_400_000, help="records, ImageNet-11K's by default")
    size.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="with 104 bytes for each")


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder, "tiny.rec")
        write_records(path, arguments.count)
        rows = []
        for what in ("nothing known of the file", "with what was kept beside it"):
            looked, first, peak, _ = read_first(path)
            rows.append([what, f"{float(looked):.1f}", f"{float(first):.1f}", f"{float(peak):,.0f}"])
    print(f"{arguments.count:,} records")
    print(table(["", "s to look at it", "s to the first batch from there", "peak MB of the process"], rows))


def write_records(path: Path, count: int) -> None:
    """A file of ``count`` images of one pixel, in 1,000 classes."""
    image = cv2.imencode(".png", np.full((1, 1, 3), 99, np.uint8))[1].tobytes()
    length = IMAGE_HEADER.size + len(image)
    kind = [("magic", "<u4"), ("length", "<u4"), ("labels", "<u4"), ("label", "<f4"), ("id", "<u8"), ("more", "<u8")]
    padding = -len(image) % 4
    record = np.dtype([*kind, ("image", "u1", len(image) + padding)])
    assert record.itemsize == RECORD_HEADER.size + length + padding
    with path.open("wb") as file:
        for begin in range(0, count, BLOCK):
            records = np.zeros(min(BLOCK, count - begin), record)
            records["magic"], records["length"] = MAGIC, length
            records["id"] = np.arange(begin, begin + len(records))
            records["label"] = records["id"] % 1000
            records["image"] = np.frombuffer(image + bytes(padding), np.uint8)
            records.tofile(file)


def read_first(path: Path) -> list[str]:
    """Seconds to look at a file and from there to its first batch, peak MB, digest: in a fresh process."""
    done = subprocess.run([sys.executable, "-c", READ, path], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()
