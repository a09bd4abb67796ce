"""Records to batches: what is loaded, and threads that load it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.decoding import ImageError, decode
from mxnet_resnet.data.recordio import Record, RecordError, RecordFile

IMAGES_A_TASK = 8  # enough that handing it to a thread or a process costs nothing
BATCHES_AHEAD = 3


class Loader(Protocol):
    """What is made of each record. Processes get it as a pickle."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image in a batch."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of an image in a batch."""
        ...

    def load(self, number: int, record: Record, image: np.ndarray) -> None:
        """Put the image of record ``number`` into its place in a batch. Raises UserError where it does not decode."""
        ...


@dataclass(frozen=True)
class Job:
    """Batches to load.

    Attributes:
        records: the file.
        loader: what is made of each record.
        batches: the numbers of the records of each batch, at most ``batch_size``; a batch that has fewer is filled up.
    """

    records: RecordFile
    loader: Loader
    batches: Iterable[np.ndarray]
    batch_size: int


class Crew(Protocol):
    """Who loads."""

    def load(self, job: Job) -> Generator[Batch, None, None]:
        """The batches of a job, in their order, made ahead while the ones before are computed on.

        Raises UserError for an image that does not decode, where its batch would come.
        """
        ...


class _Task(NamedTuple):
    """Some images of a batch: from ``first`` on of the record ``numbers``, into ``images`` and ``labels``."""

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    first: int

    @property
    def end(self) -> int:
        return min(self.first + IMAGES_A_TASK, len(self.numbers))


class Threads(NamedTuple):
    """So many threads of this process."""

    number: int

    def load(self, job: Job) -> Generator[Batch, None, None]:
        """As `Crew.load`."""

        def fill(task: _Task) -> None:
            for place in range(task.first, task.end):
                number = int(task.numbers[place])
                record = job.records.read(number)
                task.labels[place] = record.label
                job.loader.load(number, record, task.images[place])

        cv2.setNumThreads(1)  # the images are what is done in parallel
        most = BATCHES_AHEAD * -(-job.batch_size // IMAGES_A_TASK)
        for task, _ in compute_ahead(fill, _divide(job), self.number, most):
            if task.end == len(task.numbers):
                yield fill_up(task.images, task.labels, task.end)


def _divide(job: Job) -> Iterator[_Task]:
    """The work of all batches, each of which gets its memory when its turn comes."""
    for numbers in job.batches:
        images = np.empty((job.batch_size, *job.loader.shape), job.loader.dtype)
        labels = np.empty(job.batch_size, np.float32)
        for first in range(0, len(numbers), IMAGES_A_TASK):
            yield _Task(images, labels, numbers, first)


def fill_up(images: np.ndarray, labels: np.ndarray, count: int) -> Batch:
    """A batch of the first ``count`` images, filled up with the last of them."""
    images[count:], labels[count:] = images[count - 1], labels[count - 1]
    return Batch(images, labels, count)


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
