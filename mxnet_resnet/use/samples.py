"""Records to classify, all of a file or a part of them, read ahead of the net that classifies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.loading import decoded
from mxnet_resnet.data.transform import ImageShape, crops

AHEAD = 3  # batches that are read while one is computed on


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
        self, image_shape: ImageShape, crop: str, size: int, threads: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The crops (N, K, H, W, 3), RGB, uint8, and the labels (N,) of ``size`` records at a time, in their order.

        ``crop`` is one of transform.CROPS. Raises UserError for an image that does not decode.
        """
        records = recordio.RecordFile(self.path, self.summary.offsets)

        def load(number: int) -> tuple[np.ndarray, int]:
            record = records.read(number)
            with decoded(record) as image:
                return crops(image, image_shape, crop), int(record.label)

        cv2.setNumThreads(1)  # the images are what is done in parallel
        with closing(compute_ahead(load, self.numbers, threads or cores(), AHEAD * size)) as loaded:
            while some := list(islice(loaded, size)):
                images, labels = zip(*(result for _, result in some))
                yield np.stack(images), np.array(labels)


def take_all(path: Path, classes: int) -> Sample:
    """All records of a file. Raises UserError where it is damaged, or labelled with classes that a net has not."""
    summary = recordio.scan(path)
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
