"""Small images in memory: their batches are those of the reader, to the byte."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, recordio, stored
from mxnet_resnet.data.datasets import OURS
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.data.stored import StoredEpochs
from mxnet_resnet.train.reading import Reading
from tests.helpers.pictures import photograph, png
from tests.helpers.recordfiles import write_records

COUNT, HEIGHT, WIDTH = 50, 36, 34


def jpeg(image):
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    images = [(png, jpeg)[number % 2](photograph(HEIGHT, WIDTH, number)) for number in range(COUNT)]
    folder = tmp_path_factory.mktemp("stored")
    return write_records(folder / "a.rec", images, labels=[float(number % 10) for number in range(COUNT)])


def training(path, level=1, **more):
    given = dict(image_shape=(3, 32, 32), batch_size=8, augmentation=augment.LEVELS[level], pad=4, mirror=True, seed=3)
    return TrainingRecords(path, recordio.scan(path), **{**given, **more})


def hashes(batches):
    return [
        hashlib.sha256(batch.images.tobytes() + batch.labels.tobytes() + bytes([batch.count])).hexdigest()
        for batch in batches
    ]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"pad": 0},
        {"mirror": False},
        {"image_shape": (3, 28, 30), "pad": 1},
        {"image_shape": (3, 44, 42)},
        {"image_shape": (3, 36, 34), "pad": 0},
        {"part": 2, "num_parts": 3, "batch_size": 4},
        {"batch_size": 64},
    ],
)
def test_batches_from_memory_are_those_of_the_reader(path, more, monkeypatch):
    records, epochs = training(path, **more), StoredEpochs()
    expected = [hashes(records.epoch(epoch, skip)) for epoch, skip in ((0, 0), (3, 2), (7, 0))]
    list(epochs.read(records, 0, 0))
    monkeypatch.setattr(TrainingRecords, "epoch", lambda *_: pytest.fail("it was read"))
    assert [hashes(epochs.read(records, epoch, skip)) for epoch, skip in ((0, 0), (3, 2), (7, 0))] == expected


@pytest.mark.parametrize(
    "more",
    [
        {"level": 2},
        {"level": 3},
        {"augmentation": augment.level(2, small_images=True)},  # for the colours
        {"image_shape": (3, 45, 32)},  # it is enlarged
        {"image_shape": (3, 32, 43)},
    ],
)
def test_what_cannot_be_cut_from_memory_is_read(path, more):
    records, epochs = training(path, **more), StoredEpochs()
    assert hashes(epochs.read(records, 1, 2)) == hashes(records.epoch(1, 2))
    assert stored.store_training(records, stored.MOST) is None


def test_the_bound_is_on_the_images_as_they_are(path):
    size = COUNT * HEIGHT * WIDTH * 3
    assert stored.store_training(training(path), size - 1) is None
    assert stored.store_training(training(path), size).pixels.nbytes == size
    assert 50_000 * 32 * 32 * 3 < stored.MOST < 50_000 * 40 * 40 * 3


def test_images_of_several_sizes_are_read(tmp_path):
    path = write_records(tmp_path / "a.rec", [png(photograph(40, side, side)) for side in (40, 40, 41)])
    records = training(path, batch_size=1)
    assert stored.store_training(records, stored.MOST) is None
    assert hashes(StoredEpochs().read(records, 0, 0)) == hashes(records.epoch(0))


def test_images_are_decoded_once_and_freed_when_others_are_read(path, monkeypatch, caplog):
    """As in a run whose records and augmentation change at an epoch (--aug-off-epoch)."""
    counted, store = Counter(), stored._store
    monkeypatch.setattr(
        stored, "_store", lambda records, *rest: counted.update([records.path]) or store(records, *rest)
    )
    other = path.with_name("b.rec")
    other.write_bytes(path.read_bytes())
    epochs = StoredEpochs()
    with caplog.at_level("INFO"):
        for epoch, level in enumerate((2, 2, 1, 1, 1)):
            records = training(path, level)
            assert hashes(epochs.read(records, epoch, 0)) == hashes(records.epoch(epoch))
    assert counted == {path: 1}
    assert [record.message for record in caplog.records] == [f"Keeping {path} in memory: 50 images, 0 MB"]
    pixels = weakref.ref(epochs._stored.pixels)
    found = hashes(epochs.read(training(other), 5, 0))
    gc.collect()
    assert pixels() is None and counted == {path: 1, other: 1}
    assert found == hashes(training(path).epoch(5))
    list(epochs.read(training(other, 3), 6, 0))
    assert epochs._stored is None


def test_a_batch_is_its_users_own(path):
    epochs, records = StoredEpochs(), training(path)
    for batch in epochs.read(records, 0, 0):
        batch.images[:], batch.labels[:] = 0, 0
    assert hashes(epochs.read(records, 1, 0)) == hashes(records.epoch(1))


def test_an_image_that_does_not_decode_is_told_with_its_place(tmp_path):
    good = png(photograph(32, 32))
    path = write_records(tmp_path / "bad.rec", [good, good, good[:60], good])
    with pytest.raises(UserError, match=r"record 2, byte .*the image does not decode"):
        StoredEpochs().read(training(path), 0, 0)


def test_a_run_reads_from_memory(path):
    """Whether its images are mixed, and however many workers there are; what the session has it reads from there."""
    records = training(path, part=1, num_parts=2, batch_size=4)
    session = SimpleNamespace(read=lambda *_: pytest.fail("the session was asked"))
    settings = SimpleNamespace(data=SimpleNamespace(mixup=0.2, backend=OURS))
    reading = Reading(settings, None, session, SimpleNamespace(count=2), {})
    assert hashes(reading.read_epoch(records, 2, 3)) == hashes(records.epoch(2, 3))
    assert reading.stored._stored is not None


def test_batches_are_bytes(path):
    batch = next(training(path).epoch(0))
    assert (batch.images.dtype, batch.labels.dtype) == (np.uint8, np.float32)
