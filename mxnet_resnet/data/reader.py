"""RecordIO files to batches of images: RGB, uint8, (N, C, H, W)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.environment import cores
from mxnet_resnet.data.augment import Augmentation, augment
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.decoding import decode_bgr
from mxnet_resnet.data.draws import Draws, shuffle
from mxnet_resnet.data.loading import Crew, Job, Loader, Threads, decoded
from mxnet_resnet.data.recordio import Record, RecordFile, Summary
from mxnet_resnet.data.transform import ImageShape, evaluation_transform

PIXELS = np.dtype(np.uint8)  # of a batch


@dataclass(frozen=True)
class TrainingRecords:
    """Training batches, shuffled over the whole file and augmented.

    The order and the augmentation of an epoch are a function of (seed, epoch), whatever came before. Each record is in
    one part of an epoch, once; all parts have as many batches, which are filled up from the beginning of the order. The
    parts of a batch together are the batch that one worker with as many devices would have, in its order.

    Attributes:
        path: the .rec file.
        summary: of ``recordio.scan`` of it.
        image_shape: (C, H, W) of the crops.
        batch_size: images a batch.
        augmentation: a value of augment.LEVELS.
        pad: pixels of 127 put around an image before it is cropped.
        mirror: mirror half of the images.
        seed: of the run.
        part, num_parts: this worker's share of the records.
        threads: that decode and augment, where there is no
        crew: of processes that do.
    """

    path: Path
    summary: Summary = field(repr=False)
    image_shape: ImageShape
    batch_size: int
    augmentation: Augmentation
    pad: int
    mirror: bool
    seed: int
    part: int = 0
    num_parts: int = 1
    threads: int = field(default_factory=cores)
    crew: Crew | None = field(default=None, compare=False, repr=False)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one at ``skip`` on. Raises UserError for an image that does not
        decode.
        """
        loader = _TrainingLoader(self.image_shape, self.augmentation, self.pad, self.mirror, Draws(self.seed, number))
        return _load(self, loader, self._deal(number, skip))

    @property
    def batches(self) -> int:
        """The batches of an epoch, in each part."""
        return -(-self.summary.count // (self.num_parts * self.batch_size))

    def draws(self, epoch: int) -> np.ndarray:
        """The random numbers of an epoch's augmentation (records, DRAWS), float32, in [0, 1).

        One row a record, so that its augmentation depends on neither the order nor the parts.
        """
        return Draws(self.seed, epoch).rows(self.summary.count)

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of the records that this part has in an epoch, in their order, the filling included."""
        return np.concatenate([*self._deal(epoch)])

    def _deal(self, epoch: int, skip: int = 0) -> Iterator[np.ndarray]:
        """The numbers of the records of each batch, from the one at ``skip`` on."""
        order = shuffle(self.seed, epoch, self.summary.count)
        for batch in range(skip, self.batches):
            first = (batch * self.num_parts + self.part) * self.batch_size
            yield np.take(order, range(first, first + self.batch_size), mode="wrap")


@dataclass(frozen=True)
class ValidationRecords:
    """Validation images, in the order of the file, through the evaluation transform.

    Attributes:
        path: the .rec file.
        summary: of ``recordio.scan`` of it.
        image_shape: (C, H, W) of the crops.
        batch_size: images a batch.
        part, num_parts: this worker's share, or a sample: each ``num_parts``-th record from number ``part`` on.
        threads: that decode, where there is no
        crew: of processes that do.
    """

    path: Path
    summary: Summary = field(repr=False)
    image_shape: ImageShape
    batch_size: int
    part: int = 0
    num_parts: int = 1
    threads: int = field(default_factory=cores)
    crew: Crew | None = field(default=None, compare=False, repr=False)

    def read(self) -> Iterator[Batch]:
        """Each record of the part once; the last batch is filled up. Raises UserError for an image that does not
        decode.
        """
        numbers = range(self.part, self.summary.count, self.num_parts)
        batches = (
            np.array(numbers[begin : begin + self.batch_size]) for begin in range(0, len(numbers), self.batch_size)
        )
        return _load(self, _ValidationLoader(self.image_shape), batches)


def _load(
    records: TrainingRecords | ValidationRecords, loader: Loader, batches: Iterator[np.ndarray]
) -> Iterator[Batch]:
    """The batches of records whose numbers are given."""
    crew = records.crew or Threads(records.threads)
    file = RecordFile(records.path, records.summary.offsets)
    return crew.load(Job(file, loader, batches, records.batch_size))


@dataclass(frozen=True)
class _ValidationLoader:
    """What the net sees of a record: a `loading.Loader`."""

    shape: ImageShape
    dtype = PIXELS

    def load(self, number: int, record: Record, image: np.ndarray) -> None:
        """As `Loader.load`."""
        with decoded(record) as whole:
            _put(evaluation_transform(whole, self.shape), image)


@dataclass(frozen=True)
class _TrainingLoader:
    """A crop of a record, augmented: a `loading.Loader`."""

    shape: ImageShape
    augmentation: Augmentation
    pad: int
    mirror: bool
    draws: Draws
    dtype = PIXELS

    def load(self, number: int, record: Record, image: np.ndarray) -> None:
        """As `Loader.load`."""
        draws, size = self.draws.row(number), self.shape[1:]
        with decoded(record, decode_bgr) as whole:
            _put(augment(whole, draws, self.augmentation, size, self.pad, self.mirror), image)


def _put(crop: np.ndarray, image: np.ndarray) -> None:
    """A crop (H, W, 3) into its place in a batch (3, H, W)."""
    cv2.split(crop, list(image))


class Waiting:
    """Passes batches on, and counts the seconds that their user waited for them."""

    def __init__(self, batches: Iterator[Batch]):
        self._batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(self._batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch
