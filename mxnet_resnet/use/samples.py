"""Records to classify, all of a file or a part of them, read ahead of the net that classifies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.loading import Job, Threads, decoded
from mxnet_resnet.data.processes import choose_workers, loading_with
from mxnet_resnet.data.transform import TEN, ImageShape, crops

WORTH_PROCESSES = 5000  # records: about as long as the start of processes takes, threads load so many


@dataclass(frozen=True)
class Sample:
    """Records of a file.

    Attributes:
        path: the .rec file.
        summary: of ``recordio.scan`` of it.
        numbers: of the records, from 0.
    """

    path: Path
    summary: recordio.Summary
    numbers: range

    def batches(
        self, image_shape: ImageShape, crop: str, size: int, threads: int | None = None, workers: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The crops (N, K, H, W, 3), RGB, uint8, and the labels (N,) of ``size`` records at a time, in their order.

        ``crop`` is one of transform.CROPS; ``workers`` processes or ``threads`` load them, None: as many as pay. Raises
        UserError for an image that does not decode.
        """
        count = len(self.numbers)
        if workers is None and count < WORTH_PROCESSES:
            workers = 0
        batches = (np.array(self.numbers[begin : begin + size]) for begin in range(0, count, size))
        job = Job(recordio.RecordFile(self.path, self.summary.offsets), _Crops(image_shape, crop), batches, size)
        with loading_with(choose_workers(workers, threads, cores(), image_shape)) as processes:
            crew = processes or Threads(threads or cores())
            with closing(crew.load(job)) as loaded:
                for images, labels, there in loaded:
                    yield images[:there], labels[:there].astype(np.int64)


class _Crops:
    """The crops of a record (K, H, W, 3): a `loading.Loader`."""

    dtype = np.dtype(np.uint8)

    def __init__(self, image_shape: ImageShape, crop: str):
        self.image_shape, self.crop = image_shape, crop
        self.shape = (TEN if crop == "ten" else 1, *image_shape[1:], 3)

    def load(self, number: int, record: recordio.Record, image: np.ndarray) -> None:
        """As `Loader.load`."""
        with decoded(record) as whole:
            image[:] = crops(whole, self.image_shape, self.crop)


def take_all(path: Path, classes: int) -> Sample:
    """All records of a file. Raises UserError where it is damaged, or labelled with classes that a net has not."""
    summary = recordio.scan(path, content=False)
    recordio.check_labels(path, summary, classes)
    return Sample(path, summary, range(summary.count))


def take_two(classes: int, number: int, first: Path, second: Path | None = None) -> tuple[Sample, Sample]:
    """At most ``number`` records each of two files, spread evenly over them.

    Without ``second`` both are of ``first``, without a record in common. Raises UserError as `take_all`, and for a file
    that is too small.
    """
    if second is not None:
        return _take(classes, number, first), _take(classes, number, second)
    every = take_all(first, classes)
    count = min(2 * number, every.summary.count) // 2
    if not count:
        raise UserError(f"{first} holds one record: int8 needs others to measure the error on")
    step = max(2, every.summary.count // number)
    one, other = (Sample(first, every.summary, every.numbers[begin::step][:count]) for begin in range(2))
    return one, other


def _take(classes: int, number: int, path: Path) -> Sample:
    every = take_all(path, classes)
    step = max(1, every.summary.count // number)
    return Sample(path, every.summary, every.numbers[::step][:number])
