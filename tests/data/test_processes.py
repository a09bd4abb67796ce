"""Processes load the batches that threads do, and end with the process that started them."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, imagebounds, processes, recordio, ring
from mxnet_resnet.data.processes import Processes, choose_workers
from mxnet_resnet.data.reader import PIXELS, TrainingRecords, ValidationRecords
from mxnet_resnet.use.samples import Sample
from tests.helpers import REPOSITORY
from tests.helpers.pictures import photograph, png
from tests.helpers.recordfiles import begins, write_records

SHAPE = (3, 32, 32)
LIGHT = ("mxnet", "torch", "matplotlib", "mxnet_resnet.engines", "mxnet_resnet.settings")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")


def training(path: Path, **options) -> TrainingRecords:
    given = {"batch_size": 64, "augmentation": augment.LEVELS[3], "pad": 4, "mirror": True, "seed": 0, "threads": 2}
    return TrainingRecords(path, recordio.scan(path), SHAPE, **{**given, **options})


def hashes(batches) -> list[str]:
    """Of each batch, when all are there: none has changed since it came."""
    return [hashlib.sha256(b"".join([batch.images, batch.labels])).hexdigest() for batch in list(batches)]


@pytest.fixture
def records(digits) -> Path:
    return digits / "digits_val.rec"


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_batches_are_those_of_threads_whatever_the_number(digits, records, number):
    later = digits / "digits_train.rec"
    with Processes(number) as crew:
        for options in ({}, {"part": 1, "num_parts": 3}, {"batch_size": 5}, {"batch_size": 1000}):
            by_threads, by_processes = training(records, **options), training(records, **options, crew=crew)
            expected = hashes(by_threads.epoch(1))
            assert hashes(by_processes.epoch(1)) == expected != []
            assert hashes(by_processes.epoch(1, skip=1)) == expected[1:]
        off = {"augmentation": augment.LEVELS[1], "mirror": False}  # as from --aug-off-epoch on
        assert hashes(training(later, **off, crew=crew).epoch(2)) == hashes(training(later, **off).epoch(2))


@pytest.mark.parametrize("part, parts, size", [(0, 1, 100), (2, 7, 100), (0, 1, 360)])
def test_validation_is_that_of_threads(records, part, parts, size):
    given = (records, recordio.scan(records), SHAPE, size, part, parts, 2)
    with Processes(2) as crew:
        found, expected = list(ValidationRecords(*given, crew).read()), list(ValidationRecords(*given).read())
    assert hashes(found) == hashes(expected)
    assert [batch.count for batch in found] == [batch.count for batch in expected]


@pytest.mark.parametrize("crop", ["center", "ten", "squash"])
def test_samples_are_those_of_threads(records, crop):
    sample = Sample(records, recordio.scan(records), range(3, 360, 2))
    threads, workers = (list(sample.batches((3, 24, 24), crop, 50, **who)) for who in ({"threads": 2}, {"workers": 2}))
    assert [len(labels) for _, labels in workers] == [50, 50, 50, 29]
    for found, expected in zip(workers, threads):
        for array, other in zip(found, expected):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def test_an_epoch_that_is_left_in_its_middle_leaves_nothing_in_the_next(records):
    expected = hashes(training(records, batch_size=8).epoch(1))
    with Processes(2) as crew:
        for batches in (1, 3):
            epoch = training(records, batch_size=8, crew=crew).epoch(0)
            kept = list(islice(epoch, batches))
            epoch.close()
            assert hashes(training(records, batch_size=8, crew=crew).epoch(1)) == expected
            assert hashes(kept) == hashes(training(records, batch_size=8).epoch(0))[:batches]


def test_several_jobs_at_once_do_not_wait_for_each_other(records):
    with Processes(2) as crew:
        seeds = [training(records, seed=seed, crew=crew).epoch(0) for seed in range(3)]
        first = hashes(seeds[0])
        rest = list(zip(*seeds[1:]))
    assert first == hashes(training(records).epoch(0))
    for seed, batches in enumerate(zip(*rest), 1):
        assert hashes(batches) == hashes(training(records, seed=seed).epoch(0))


def test_a_loop_goes_over_the_same_memory_again_and_again(records):
    with Processes(2) as crew:
        places = [batch.images.ctypes.data for batch in training(records, batch_size=2, crew=crew).epoch(0)]
    gc.collect()
    ahead = -(-2 * 2 * processes.IMAGES_A_TASK // 2)
    assert len(places) == 180 and len(set(places)) <= ahead + ring.HELD


def test_an_image_that_does_not_decode_is_told_where_threads_tell_it(tmp_path):
    good = png(photograph(32, 32))
    path = write_records(tmp_path / "bad.rec", [good] * 21 + [b"no image"] + [good] * 5 + [b""] + [good] * 5)
    told = []
    with Processes(2) as crew:
        for who in ({}, {"crew": crew}):
            seen = []
            with pytest.raises(UserError) as error:
                for batch in ValidationRecords(path, recordio.scan(path), SHAPE, 8, **who).read():
                    seen.append(batch.count)
            told.append((type(error.value), str(error.value), error.value.reason, seen))
    assert told[0] == told[1]
    assert f"record 21, byte {begins(path)[21]}: the image does not decode" in told[0][1] and told[0][3] == [8, 8]


def test_the_bound_on_pixels_is_that_of_the_run(tmp_path):
    path = write_records(tmp_path / "a.rec", [png(np.zeros((40, 40, 3), np.uint8))] * 3)
    validation = ValidationRecords(path, recordio.scan(path), SHAPE, 2)
    with Processes(1) as crew:
        imagebounds.allow(1000)
        try:
            with pytest.raises(UserError, match="--max-pixels allows more"):
                list(replace(validation, crew=crew).read())
        finally:
            imagebounds.allow(None)
        assert len(list(replace(validation, crew=crew).read())) == 2


def test_a_process_that_is_killed_is_one_sentence_and_the_next_job_starts_anew(records):
    with Processes(3) as crew:
        epoch = training(records, batch_size=2, crew=crew).epoch(0)
        next(epoch)
        victim = next(iter(crew._workers.values()))
        victim.kill()
        with pytest.raises(UserError, match=f"process {victim.pid}, one of 3 that load records, was ended by SIGKILL"):
            list(epoch)
        assert hashes(training(records, crew=crew).epoch(0)) == hashes(training(records).epoch(0))


def test_signals_for_the_run_are_none_for_its_processes(records):
    with Processes(2) as crew:
        epoch = training(records, batch_size=4, crew=crew).epoch(0)
        first = next(epoch)
        for process in crew._workers.values():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                process.send_signal(number)
        assert hashes([first, *epoch]) == hashes(training(records, batch_size=4).epoch(0))


KILLED = """
import os, sys, time
from pathlib import Path
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.processes import Processes
from mxnet_resnet.data.reader import TrainingRecords

path = Path(sys.argv[1])
crew = Processes(3)
records = TrainingRecords(path, recordio.scan(path), (3, 32, 32), 4, augment.LEVELS[3], 4, True, 0, crew=crew)
epoch = records.epoch(0)
next(epoch)
if os.fork():  # a child that has all descriptors, as some libraries make them
    print(*[process.pid for process in crew._workers.values()], flush=True)
    time.sleep(60)
else:
    sys.stdout.close()
    os.close(1)
    time.sleep(20)
"""


def list_shared() -> set[str]:
    """What is in shared memory, but for the semaphores that other tests have at the same time."""
    return {name for name in os.listdir(ring.SHARED) if not name.startswith("sem.")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_none_outlives_the_process_that_started_it(records, number):
    shared = list_shared()
    command = [sys.executable, "-c", KILLED, str(records)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as started:
        workers = list(map(int, started.stdout.readline().split()))
        assert len(workers) == 3 and all(map(is_there, workers))
        started.send_signal(number)
        started.wait(30)
        deadline = time.monotonic() + 30
        while any(map(is_there, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)
    assert list_shared() <= shared


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for somebody to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "room, told", [(100, ""), (4, "has room for 4 batches of the 6"), (1, "Threads load what 2 processes")]
)
def test_where_shared_memory_is_small_fewer_batches_or_threads(records, monkeypatch, caplog, room, told):
    """As in a container, whose /dev/shm has 64 MB, on a system that has no memory without a name."""
    caplog.set_level("INFO")
    monkeypatch.delattr(os, "memfd_create")
    with Processes(2) as crew:
        reading = training(records, crew=crew)
        size = ring.Layout(64, SHAPE, PIXELS.str).size
        bytes_free = ring.mmap.PAGESIZE + room * size
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=bytes_free // 512, f_frsize=512))
        assert hashes(reading.epoch(0)) == hashes(training(records).epoch(0))
    assert caplog.text.count(told) and (told or not caplog.text)
    assert not [name for name in os.listdir(ring.SHARED) if name.startswith("tmp")]


def test_a_shared_memory_that_is_full_is_no_end(records, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with Processes(2) as crew:
        assert hashes(training(records, crew=crew).epoch(0)) == hashes(training(records).epoch(0))
    assert "Threads load what 2 processes should: [Errno 28] No space left" in caplog.text


def test_processes_import_no_framework():
    modules = "import mxnet_resnet.data.worker, mxnet_resnet.data.reader, mxnet_resnet.use.samples, sys"
    check = f"{modules}; print(*sorted(set({LIGHT}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


@pytest.mark.parametrize(
    "asked, threads, cores, side, number",
    [
        (None, None, 7, 224, 0),
        (None, None, 8, 224, 8),
        (None, None, 64, 224, 64),
        (None, None, 64, 32, 0),
        (None, 16, 64, 224, 0),
        (0, None, 64, 224, 0),
        (5, None, 2, 32, 5),
    ],
)
def test_processes_load_photographs_on_many_cores(asked, threads, cores, side, number):
    assert choose_workers(asked, threads, cores, (3, side, side)) == number


def test_processes_that_cannot_be_are_told(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert choose_workers(None, None, 64, (3, 224, 224)) == 0
    with pytest.raises(UserError, match="--data-workers 2 needs Linux"):
        choose_workers(2, None, 64, (3, 224, 224))
