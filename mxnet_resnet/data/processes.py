"""Processes that load batches into shared memory: where threads, which share Python's lock, no longer get faster.

They and what they share have no names in the system, so that nothing is left behind, however this process ends: tasks
come by a pipe whose end tells them to go, and batches are in memory that goes with the last process that has it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from types import TracebackType
from typing import NoReturn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import SIGNALS
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.loading import BATCHES_AHEAD, IMAGES_A_TASK, Job, Threads
from mxnet_resnet.data.ring import HELD, SHARED, Layout, Ring
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.data.worker import TASK, Answer, Order

START = "import sys; sys.path[:] = sys.argv[4:]; from mxnet_resnet.data.worker import main; main()"
QUEUED = 4096 // TASK.size  # tasks that any pipe has room for
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # a process is one of many
# Photographs of 480 pixels at level 2, images/s on 16 cores of an H100's machine: 1, 4, 8 and 16 threads 373, 1,363,
# 2,428 and 2,816; 16 processes 5,599. Up to 4 threads lose a tenth, with 8 a fifth, with 16 half.
MANY_CORES = 8
SMALL = 64  # pixels of a side
LEAVING = 5.0  # seconds that the tasks of a job that was left may take
LOOKING = 1.0  # seconds after which is looked whether the processes are there, if none of them says anything


class _Waiting:
    """A batch that is being loaded.

    Attributes:
        left: the tasks that are not done.
        errors: by the first image of the task.
    """

    def __init__(self, slot: int, count: int):
        self.slot, self.count = slot, count
        self.left = -(-count // IMAGES_A_TASK)
        self.errors: dict[int, Exception] = {}


class _Running:
    """A job under way.

    Attributes:
        waiting: its batches, in their order.
        end: why it cannot go on.
    """

    def __init__(self, number: int, job: Job, ring: Ring):
        self.number, self.job, self.ring = number, job, ring
        self.batches = iter(job.batches)
        self.waiting: deque[_Waiting] = deque()
        self.end: Exception | None = None

    def note(self, answer: Answer) -> None:
        """Note that a task is done."""
        batch = next(batch for batch in self.waiting if batch.slot == answer.slot)
        batch.left -= 1
        if answer.error is not None:
            batch.errors[answer.first] = answer.error


class Processes:
    """So many processes, which start with the first job and end with the block, or with this process.

    Several jobs may be under way, in threads too. Where a job's batches do not fit into shared memory, threads load
    them, and a line in the log says so.
    """

    def __init__(self, number: int):
        self.number = number
        self._workers: dict[Connection, subprocess.Popen] = {}
        self._rings: list[Ring] = []  # those that serve no job
        self._running: dict[int, _Running] = {}
        self._rings_of: dict[int, Ring] = {}  # by the number of a job, those that were left included
        self._selector = selectors.DefaultSelector()  # of the connections
        self._last = self._last_ring = 0  # numbers
        self._tasks = -1  # the pipe's end that is written to
        self._unsent: deque[tuple[int, int, int]] = deque()
        self._outstanding = 0
        self._lock = threading.RLock()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def load(self, job: Job) -> Generator[Batch, None, None]:
        """As `loading.Crew.load`. Raises UserError, too, where one of the processes was ended.

        The images of a batch are shared memory, which serves for another batch when no array shows them any more.
        """
        try:
            running = self._begin(job)
        except OSError as error:
            logging.warning("Threads load what %d processes should: %s", self.number, error)
            yield from Threads(self.number).load(job)
            return
        try:
            while batch := self._next(running):
                yield batch
        finally:
            self._leave(running)

    def close(self) -> None:
        """End the processes, which have nothing to lose."""
        with self._lock:
            for running in self._running.values():
                running.end = running.end or RuntimeError("the processes that load batches have ended")
            for connection, process in self._workers.items():
                process.kill()
                process.wait()
                self._selector.unregister(connection)
                connection.close()
            if self._workers:
                os.close(self._tasks)
            for ring in {id(ring): ring for ring in (*self._rings, *self._rings_of.values())}.values():
                ring.close()
            for state in (self._workers, self._rings, self._rings_of, self._running, self._unsent):
                state.clear()
            self._outstanding = 0

    def _begin(self, job: Job) -> _Running:
        """Tell all processes of a job. Raises OSError where there is no memory for its batches."""
        with self._lock:
            if not self._workers:
                try:
                    self._start()
                except OSError:
                    self.close()
                    raise
            ring = self._take_ring(job)
            self._last += 1
            running = self._running[self._last] = _Running(self._last, job, ring)
            self._rings_of[self._last] = ring
            ring.job[0] = self._last
            going, path = frozenset(self._running), str(job.records.path)
            own = (ring.number, ring.layout, ring.slots)
            order = Order(self._last, going, path, job.loader, *own, imagebounds.allowed())
            for connection, process in self._workers.items():
                try:
                    connection.send(order)
                    for descriptor in (ring.descriptor, job.records.file.fileno()):
                        send_handle(connection, descriptor, process.pid)
                except (BrokenPipeError, ConnectionResetError):
                    self._fail(process)
            return running

    def _start(self) -> None:
        """Start the processes. What starts them blocks the signals that are for this process alone."""
        tasks, self._tasks = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for _ in range(self.number):
                own, theirs = Pipe()
                with theirs:
                    descriptors = (tasks, theirs.fileno())
                    command = [sys.executable, "-c", START, str(os.getpid()), *map(str, descriptors), *sys.path]
                    environment = {**os.environ, **ONE_THREAD}
                    self._workers[own] = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        env=environment,
                        pass_fds=descriptors,
                    )
                self._selector.register(own, selectors.EVENT_READ)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(tasks)

    def _take_ring(self, job: Job) -> Ring:
        """Memory for a job's batches: that of an earlier job where it has the layout, and all is done in it."""
        layout = Layout.of(job)
        deadline = time.monotonic() + LEAVING
        while fitting := [ring for ring in self._rings if ring.layout == layout]:
            for ring in fitting:
                if not ring.outstanding:
                    self._rings.remove(ring)
                    self._rings_of = {job: of for job, of in self._rings_of.items() if of is not ring}
                    return ring
            if time.monotonic() >= deadline:
                break
            self._receive()
        ahead = max(BATCHES_AHEAD, -(-2 * self.number * IMAGES_A_TASK // job.batch_size))  # two tasks a process
        self._last_ring += 1
        ring = Ring(self._last_ring, layout, ahead)
        if ring.slots < ahead + HELD:
            logging.info("%s has room for %d batches of the %d that would be there", SHARED, ring.slots, ahead + HELD)
        return ring

    def _leave(self, running: _Running) -> None:
        """End a job, done or not: its memory is for another when what is under way is done."""
        with self._lock:
            if self._running.pop(running.number, None) is None:
                return  # all have ended
            ring = running.ring
            ring.job[0] = 0
            unsent = [task for task in self._unsent if task[0] == running.number]
            self._unsent = deque(task for task in self._unsent if task[0] != running.number)
            ring.outstanding -= len(unsent)
            ring.free.extend(batch.slot for batch in running.waiting)
            self._rings.append(ring)

    def _next(self, running: _Running) -> Batch | None:
        """The next batch of a job; None behind the last one."""
        with self._lock:
            self._check(running)
            self._assign(running)
        if not running.waiting:
            return None
        batch = running.waiting[0]
        while batch.left:
            with self._lock:  # in turn with others that wait for theirs
                self._check(running)
                if batch.left:
                    self._receive()
        running.waiting.popleft()
        if batch.errors:
            running.ring.free.append(batch.slot)
            raise batch.errors[min(batch.errors)]
        return running.ring.lend(batch.slot, batch.count, len(running.waiting))

    @staticmethod
    def _check(running: _Running) -> None:
        """Raise what has ended a job."""
        if running.end is not None:
            raise running.end

    def _assign(self, running: _Running) -> None:
        """Give the free memory of a job's ring to its next batches."""
        ring = running.ring
        while ring.free and (numbers := next(running.batches, None)) is not None:
            slot, count = ring.free.popleft(), len(numbers)
            records = ring.slot(slot).records
            records[count:] = -1
            records[:count].T[:] = numbers, *running.job.records.find(numbers)
            running.waiting.append(_Waiting(slot, count))
            tasks = [(running.number, slot, first) for first in range(0, count, IMAGES_A_TASK)]
            ring.outstanding += len(tasks)
            self._unsent.extend(tasks)
        self._send()

    def _send(self) -> None:
        """Send tasks, no more than the pipe has room for: whoever is free takes the next."""
        while self._unsent and self._outstanding < QUEUED:
            with suppress(BrokenPipeError):  # that they have gone is told where answers are waited for
                os.write(self._tasks, TASK.pack(*self._unsent.popleft()))
            self._outstanding += 1

    def _receive(self) -> None:
        """Wait for answers, and note them."""
        found = self._selector.select(LOOKING)
        for key, _ in found:
            try:
                answer: Answer = key.fileobj.recv()  # type: ignore[union-attr]
            except (EOFError, OSError):
                self._fail(self._workers[key.fileobj])  # type: ignore[index]
            self._outstanding -= 1
            self._rings_of[answer.job].outstanding -= 1
            if answer.job in self._running:
                self._running[answer.job].note(answer)
        if not found:
            for process in self._workers.values():
                if process.poll() is not None:
                    self._fail(process)
        self._send()

    def _fail(self, process: subprocess.Popen) -> NoReturn:
        """Raise UserError: one of the processes has gone, and what it was at is not known; the next job starts anew."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAVING)
        how = "has ended" if process.returncode is None else f"ended with status {process.returncode}"
        if (process.returncode or 0) < 0:
            how = f"was ended by {signal.Signals(-process.returncode).name}"
        error = UserError(
            f"process {process.pid}, one of {self.number} that load records, {how}: see whether memory is short; a "
            "run goes on from its last checkpoint with --resume, and --data-workers 0 loads by threads"
        )
        for running in self._running.values():
            running.end = error
        self.close()
        raise error


@contextmanager
def loading_with(workers: int) -> Iterator[Processes | None]:
    """So many processes, within the block; None for 0 of them."""
    with Processes(workers) if workers else nullcontext() as processes:
        yield processes


def choose_workers(asked: int | None, threads: int | None, cores: int, image_shape: ImageShape) -> int:
    """How many processes load images for a net of ``image_shape``; 0 where threads do.

    ``asked`` is what the user wants, and so is ``threads``; else it is one a core for photographs from `MANY_CORES` on,
    and none for small images, of which Python's part is so large that what processes tell each other is as much. Raises
    UserError where the system has no way to share what processes need.
    """
    possible = sys.platform == "linux" and bool(sys.executable)
    if asked and not possible:
        raise UserError(f"--data-workers {asked} needs Linux: leave it out, and threads load the images")
    if asked is not None:
        return asked
    wanted = threads is None and possible and cores >= MANY_CORES and max(image_shape[1:]) > SMALL
    return cores if wanted else 0
