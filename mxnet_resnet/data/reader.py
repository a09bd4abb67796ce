"""RecordIO files to batches of images: RGB, uint8, (N, C, H, W)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.augment import DRAWS, Augmentation, augment
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.decoding import ImageError, decode, decode_bgr
from mxnet_resnet.data.recordio import Record, RecordError, RecordFile, Summary
from mxnet_resnet.data.transform import ImageShape, evaluation_transform

IMAGES_A_TASK = 8  # enough that handing it to a thread costs nothing
BATCHES_AHEAD = 3

Load = Callable[[int], tuple[np.ndarray, float]]  # a record's number to its image (H, W, 3), RGB, uint8, and its label


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
        threads: that decode and augment.
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

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one at ``skip`` on. Raises UserError for an image that does not
        decode.
        """
        records = RecordFile(self.path, self.summary.offsets)
        draws, size = self.draws(number), self.image_shape[1:]

        def load(place: int) -> tuple[np.ndarray, float]:
            record = records.read(place)
            with decoded(record, decode_bgr) as image:
                return augment(image, draws[place], self.augmentation, size, self.pad, self.mirror), record.label

        order = self.order(number)[skip * self.batch_size :]
        return _batches(load, order, self.image_shape, self.batch_size, self.threads)

    @property
    def batches(self) -> int:
        """The batches of an epoch, in each part."""
        return -(-self.summary.count // (self.num_parts * self.batch_size))

    def draws(self, epoch: int) -> np.ndarray:
        """The random numbers of an epoch's augmentation (records, DRAWS), float32, in [0, 1).

        One row a record, so that its augmentation depends on neither the order nor the parts.
        """
        return np.random.default_rng([self.seed, epoch, 1]).random((self.summary.count, DRAWS), np.float32)

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of the records that this part has in an epoch, in their order, the filling included."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.summary.count)
        return np.resize(order, (self.batches, self.num_parts, self.batch_size))[:, self.part].ravel()


@dataclass(frozen=True)
class ValidationRecords:
    """Validation images, in the order of the file, through the evaluation transform.

    Attributes:
        path: the .rec file.
        summary: of ``recordio.scan`` of it.
        image_shape: (C, H, W) of the crops.
        batch_size: images a batch.
        part, num_parts: this worker's share, or a sample: each ``num_parts``-th record from number ``part`` on.
        threads: that decode.
    """

    path: Path
    summary: Summary = field(repr=False)
    image_shape: ImageShape
    batch_size: int
    part: int = 0
    num_parts: int = 1
    threads: int = field(default_factory=cores)

    def read(self) -> Iterator[Batch]:
        """Each record of the part once; the last batch is filled up. Raises UserError for an image that does not
        decode.
        """
        records = RecordFile(self.path, self.summary.offsets)

        def load(number: int) -> tuple[np.ndarray, float]:
            record = records.read(number)
            with decoded(record) as image:
                return evaluation_transform(image, self.image_shape), record.label

        numbers = range(self.part, self.summary.count, self.num_parts)
        return _batches(load, numbers, self.image_shape, self.batch_size, self.threads)


@contextmanager
def decoded(record: Record, decoder: Callable[[bytes], np.ndarray] = decode) -> Iterator[np.ndarray]:
    """The image of a record, (H, W, 3), uint8, for the block that uses it.

    Raises UserError where it does not decode, and puts the place of the record before what the block raises of these.
    """
    try:
        yield decoder(record.image)
    except ImageError as error:
        raise RecordError(record.where, f"the image {error}") from error
    except UserError as error:
        raise RecordError(record.where, str(error)) from error


class _Task(NamedTuple):
    """Some images of a batch: from ``first`` on of the record ``numbers``, into ``images`` and ``labels``."""

    images: np.ndarray
    labels: np.ndarray
    numbers: Sequence[int] | np.ndarray
    first: int

    @property
    def end(self) -> int:
        return min(self.first + IMAGES_A_TASK, len(self.numbers))


def _batches(
    load: Load, order: Sequence[int] | np.ndarray, image_shape: ImageShape, batch_size: int, threads: int
) -> Iterator[Batch]:
    """Batches of ``load`` over ``order``, made ahead by threads while the ones before are computed on."""

    def fill(task: _Task) -> None:
        for place in range(task.first, task.end):
            image, task.labels[place] = load(task.numbers[place])
            cv2.split(image, list(task.images[place]))

    cv2.setNumThreads(1)  # the images are what is done in parallel
    tasks = _tasks(order, image_shape, batch_size)
    for task, _ in compute_ahead(fill, tasks, threads, BATCHES_AHEAD * -(-batch_size // IMAGES_A_TASK)):
        if task.end == len(task.numbers):
            yield _filled_up(task.images, task.labels, task.end)


def _tasks(order: Sequence[int] | np.ndarray, image_shape: ImageShape, batch_size: int) -> Iterator[_Task]:
    """The work of all batches, each of which gets its memory when its turn comes."""
    for begin in range(0, len(order), batch_size):
        numbers = order[begin : begin + batch_size]
        images, labels = np.empty((batch_size, *image_shape), np.uint8), np.empty(batch_size, np.float32)
        for first in range(0, len(numbers), IMAGES_A_TASK):
            yield _Task(images, labels, numbers, first)


def _filled_up(images: np.ndarray, labels: np.ndarray, count: int) -> Batch:
    """A batch of the first ``count`` images, filled up with the last of them."""
    images[count:], labels[count:] = images[count - 1], labels[count - 1]
    return Batch(images, labels, count)


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
