"""Batches in memory that processes share: each fills places of them, and nothing is copied."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.loading import Job, fill_up

SHARED = Path("/dev/shm")
HELD = 3  # batches that a loop may keep in its hands: the one it computes on, the one before, one on its way to a GPU
LEAST = 2  # batches of which one is filled while one is used
ALIGNED = 64  # bytes: a line of the cache, and what vectors load at once


class Layout(NamedTuple):
    """Where things lie in the memory of a batch: images, labels, and of each record its number, first byte and end.

    The memory of a ring begins with a page that holds the number of the job that it serves.
    """

    batch_size: int
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(job: Job) -> Layout:
        """That of a job's batches."""
        return Layout(job.batch_size, job.loader.shape, np.dtype(job.loader.dtype).str)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the images, the labels and the records of a batch."""
        images = self.batch_size * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return -(-images // ALIGNED) * ALIGNED, -(-4 * self.batch_size // ALIGNED) * ALIGNED, 24 * self.batch_size

    @property
    def size(self) -> int:
        """Bytes of a batch, in whole pages."""
        return -(-sum(self.sizes) // mmap.PAGESIZE) * mmap.PAGESIZE

    def whole(self, slots: int) -> int:
        """Bytes of a ring."""
        return mmap.PAGESIZE + slots * self.size


class Slot(NamedTuple):
    """The memory of one batch, seen as arrays.

    Attributes:
        images: (N, *shape).
        labels: (N,), float32.
        records: (N, 3), int64: number, first byte and end of each record.
    """

    images: np.ndarray
    labels: np.ndarray
    records: np.ndarray

    @staticmethod
    def see(layout: Layout, memory: object, offset: int) -> Slot:
        """The slot whose first byte is at ``offset``."""
        images, labels, _ = layout.sizes
        size = layout.batch_size
        return Slot(
            np.ndarray((size, *layout.shape), np.dtype(layout.dtype), memory, offset),  # type: ignore[arg-type]
            np.ndarray(size, np.float32, memory, offset + images),  # type: ignore[arg-type]
            np.ndarray((size, 3), np.int64, memory, offset + images + labels),  # type: ignore[arg-type]
        )


class Mapping:
    """The memory of a ring in a process.

    Attributes:
        job: (1,), int64: the number of the job that it serves, 0 for none: what is of another job need not be done.
    """

    def __init__(self, descriptor: int, layout: Layout, slots: int):
        self.layout = layout
        self.memory = mmap.mmap(descriptor, layout.whole(slots))
        self.job: np.ndarray = np.ndarray(1, np.int64, self.memory)

    def slot(self, number: int) -> Slot:
        """The arrays of a batch."""
        return Slot.see(self.layout, self.memory, self._find(number))

    def _find(self, number: int) -> int:
        return mmap.PAGESIZE + number * self.layout.size


class Ring(Mapping):
    """The memory as the process has it that made it: which of its batches are free, and which are in use.

    Attributes:
        number: by which processes know it again.
        descriptor: of the memory, which has no name: it goes when the last process that has it ends.
        slots: how many batches it has room for.
        free: the numbers of those that may be filled.
        outstanding: tasks of it that processes have and have not answered.
    """

    def __init__(self, number: int, layout: Layout, ahead: int):
        """Raises OSError where there is too little memory for `LEAST` batches."""
        self.number = number
        self.descriptor, self.slots = _allocate(layout, ahead + HELD)
        super().__init__(self.descriptor, layout, self.slots)
        self.free: deque[int] = deque(range(self.slots))
        self.outstanding = 0

    def lend(self, number: int, count: int, working: int) -> Batch:
        """The batch in a slot, which is free again when no array shows its images any more.

        Where that would leave too few of which ``working`` are filled or wait, since whoever reads keeps batches, it
        is a copy.
        """
        slot = self.slot(number)
        labels = slot.labels.copy()
        if working + len(self.free) < max(1, self.slots - HELD):
            images = slot.images.copy()
            self.free.append(number)
            return fill_up(images, labels, count)
        begin = self._find(number)
        memory = (ctypes.c_char * self.layout.size).from_buffer(self.memory, begin)
        weakref.finalize(memory, self.free.append, number).atexit = False
        return fill_up(Slot.see(self.layout, memory, 0).images, labels, count)

    def close(self) -> None:
        """Let go of the memory; what is lent stays as long as it is seen."""
        os.close(self.descriptor)


def _allocate(layout: Layout, slots: int) -> tuple[int, int]:
    """Memory for batches, and for how many. Raises OSError.

    Where the system has memory without a name (Linux), a small /dev/shm, as in a container, bounds nothing. Else all of
    it is taken from there beforehand: to write beyond its end would kill.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("batches")
        os.ftruncate(descriptor, layout.whole(slots))
        return descriptor, slots
    room = os.statvfs(SHARED)
    fitting = min(slots, (room.f_bavail * room.f_frsize - mmap.PAGESIZE) // layout.size)
    if fitting < LEAST:
        raise OSError(f"{SHARED} has room for {max(0, fitting)} batches of {layout.size / 2**20:.0f} MB")
    with tempfile.TemporaryFile(dir=SHARED) as file:
        os.posix_fallocate(file.fileno(), 0, layout.whole(fitting))
        return os.dup(file.fileno()), fitting
