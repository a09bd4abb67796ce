"""A process that loads records into shared memory, until the one that started it ends.

It has these signals blocked from the start: SIGINT, SIGTERM and SIGHUP are for the process that started it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from struct import Struct
from typing import BinaryIO, NamedTuple

import cv2

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.loading import IMAGES_A_TASK, Loader
from mxnet_resnet.data.recordio import read_record
from mxnet_resnet.data.ring import Layout, Mapping

TASK = Struct("<qii")  # the job, the slot, the first image: of one size, so that processes can share a pipe of them


class Order(NamedTuple):
    """What a worker has to know of a job; behind it come descriptors of the memory and of the record file.

    Attributes:
        going: the jobs that have not ended.
        path: what errors call the file.
        ring: the number of a memory that may be known from an earlier job.
        slots, layout: of the ring.
        pixels: that an image may have, as of `imagebounds.allowed`.
    """

    job: int
    going: frozenset[int]
    path: str
    loader: Loader
    ring: int
    layout: Layout
    slots: int
    pixels: int | None


class Answer(NamedTuple):
    """A task is done, or could not be."""

    job: int
    slot: int
    first: int
    error: Exception | None = None


@dataclass(frozen=True)
class _Work:
    """A job as a worker has it."""

    order: Order
    ring: Mapping
    file: BinaryIO

    def do(self, slot: int, first: int) -> None:
        """Load some images; none where the job has ended meanwhile."""
        images, labels, records = self.ring.slot(slot)
        for place in range(first, min(first + IMAGES_A_TASK, len(records))):
            number, offset, end = records[place].tolist()
            if number < 0 or self.ring.job[0] != self.order.job:
                return
            record = read_record(self.file, self.order.path, number, offset, end)
            labels[place] = record.label
            self.order.loader.load(number, record, images[place])


def main() -> None:
    """Work: the arguments are the process that started this one, and descriptors of tasks and of the connection."""
    parent, tasks, own = map(int, sys.argv[1:4])
    _end_with(parent)
    cv2.setNumThreads(1)
    connection = Connection(own)
    works: dict[int, _Work] = {}
    try:
        while task := os.read(tasks, TASK.size):
            job, slot, first = TASK.unpack(task)
            while job not in works:
                works = _receive(connection, works)
            connection.send(_answer(works[job], slot, first))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody wants the answers any more
        pass


def _receive(connection: Connection, works: dict[int, _Work]) -> dict[int, _Work]:
    """The jobs that have not ended, the next one among them."""
    order: Order = connection.recv()
    imagebounds.allow(order.pixels)
    memory, file = recv_handle(connection), recv_handle(connection)
    known = (work.ring for work in works.values() if work.order.ring == order.ring)
    ring = next(known, None) or Mapping(memory, order.layout, order.slots)
    os.close(memory)
    for job in works.keys() - order.going:
        works.pop(job).file.close()
    return {**works, order.job: _Work(order, ring, os.fdopen(file, "rb"))}


def _answer(work: _Work, slot: int, first: int) -> Answer:
    """Do a task. An error is for the process that uses the batch."""
    try:
        work.do(slot, first)
    except UserError as error:
        return Answer(work.order.job, slot, first, error)
    except Exception:
        return Answer(work.order.job, slot, first, RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))
    return Answer(work.order.job, slot, first)


def _end_with(parent: int) -> None:
    """End when the process that started this one has, whatever else keeps its pipe open.

    Linux can signal this by itself, but does so when the thread ends that started the process, too.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
