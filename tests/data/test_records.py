import hashlib
import struct
import time
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, reader, recordio
from mxnet_resnet.data.datasets import BACKENDS
from mxnet_resnet.data.decoding import ImageError, decode
from mxnet_resnet.data.transform import evaluation_transform, read_image, short_side
from mxnet_resnet.engines.mxnet import imagerecorditer
from mxnet_resnet.train.reading import Reading
from tests.helpers.pictures import photograph, png
from tests.helpers.recordfiles import begins, write_records


def test_scan_counts_and_finds_the_labels(tmp_path):
    path = write_records(tmp_path / "a.rec", [png(photograph(8, 8))] * 3, labels=[4.0, 0.0, [2.0]])
    summary = recordio.scan(path)
    assert (summary.count, summary.min_label, summary.max_label) == (3, 0.0, 4.0)
    assert list(summary.offsets) == begins(path)


def test_scan_agrees_with_mxnets_reader(digits):
    reader = mx.recordio.MXIndexedRecordIO(str(digits / "digits_val.idx"), str(digits / "digits_val.rec"), "r")
    assert recordio.scan(digits / "digits_val.rec").count == len(reader.keys)
    assert begins(digits / "digits_val.rec") == sorted(reader.idx.values())


def test_a_file_cut_anywhere_is_told(tmp_path, digits):
    whole = (digits / "digits_val.rec").read_bytes()[: begins(digits / "digits_val.rec")[3]]
    ends = begins(digits / "digits_val.rec")[:4]
    path = tmp_path / "cut.rec"
    for size in range(1, len(whole), 97):
        path.write_bytes(whole[:size])
        if size in ends:
            continue
        with pytest.raises(UserError, match=r"record \d, byte \d+"):
            recordio.scan(path)


def test_a_damaged_header_is_told(tmp_path, digits):
    data = bytearray((digits / "digits_val.rec").read_bytes())
    place = begins(digits / "digits_val.rec")[5]
    data[place] ^= 0x10
    path = tmp_path / "damaged.rec"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"record 5, byte {place}"):
        recordio.scan(path)


def test_missing_and_empty_files_are_told(tmp_path):
    with pytest.raises(UserError, match="there is no record file"):
        recordio.scan(tmp_path / "none.rec")
    (tmp_path / "empty.rec").touch()
    with pytest.raises(UserError, match="holds no records"):
        recordio.scan(tmp_path / "empty.rec")


def test_a_record_without_an_image_header_is_told(tmp_path):
    (tmp_path / "short.rec").write_bytes(struct.pack("<II", recordio.MAGIC, 4) + b"abcd")
    with pytest.raises(UserError, match="record 0, byte 0"):
        recordio.scan(tmp_path / "short.rec")


@pytest.mark.parametrize(
    "label, message", [(1.5, "no whole number"), (float("nan"), "no whole"), ([1.0, 2.0], "2 labels")]
)
def test_what_is_no_label_is_told_with_its_record(tmp_path, label, message):
    path = write_records(tmp_path / "a.rec", [png(photograph(8, 8))] * 3, labels=[0.0, label, 0.0])
    with pytest.raises(UserError, match=f"record 1, byte .*{message}"):
        recordio.scan(path)


def test_a_record_split_at_the_magic_word_is_joined(tmp_path):
    """MXNet cuts a record where its data have the magic word, and leaves the word out."""
    magic = struct.pack("<I", recordio.MAGIC)
    images = [b"abcd" + magic + b"efgh" + magic + magic + b"i", b"plain", magic]
    path = write_records(tmp_path / "split.rec", images)
    assert len(path.read_bytes()) != sum(8 + 24 + len(image) for image in images)
    assert [record.image for record in recordio.walk(path)] == images
    reader = mx.recordio.MXRecordIO(str(path), "r")
    assert [mx.recordio.unpack(reader.read())[1] for _ in images] == images


def test_labels_outside_the_classes_are_told(tmp_path):
    path = write_records(tmp_path / "a.rec", [png(photograph(8, 8))] * 2, labels=[0.0, 10.0])
    with pytest.raises(UserError, match="labels from 0 to 10, and a net of 10 classes knows 0 to 9"):
        recordio.check_labels(path, recordio.scan(path), 10)


@pytest.mark.parametrize("bad", [b"", b"no image", png(photograph(32, 32))[:60]])
def test_an_image_that_does_not_decode_is_told_with_its_place(tmp_path, bad):
    good = png(photograph(32, 32))
    path = write_records(tmp_path / "bad.rec", [good] * 5 + [bad] + [good] * 5)
    summary = recordio.scan(path)
    training = reader.TrainingRecords(path, summary, (3, 32, 32), 4, augment.LEVELS[1], 0, True, seed=0)
    readings = [
        lambda: recordio.scan(path, decoding=True),
        lambda: list(reader.ValidationRecords(path, summary, (3, 32, 32), 4).read()),
        lambda: list(training.epoch(0)),
        lambda: list(imagerecorditer.read_epoch(training, 0)),
    ]
    for read in readings:
        with pytest.raises(UserError, match=f"record 5, byte {begins(path)[5]}: the image does not decode"):
            read()


def test_validation_counts_every_record_once(digits):
    path = digits / "digits_val.rec"
    batches = list(reader.ValidationRecords(path, recordio.scan(path), (3, 32, 32), 100).read())
    labels = [label for batch in batches for label in batch.labels[: batch.count]]
    assert labels == [record.label for record in recordio.walk(digits / "digits_val.rec")]
    assert [batch.count for batch in batches] == [100, 100, 100, 60]
    assert all(batch.images.shape == (100, 3, 32, 32) and batch.labels.shape == (100,) for batch in batches)


def training_records(digits, level=1, **options):
    path = digits / "digits_val.rec"
    preset = augment.level(level, small_images=True)
    options = {"batch_size": 64, "seed": 0, "pad": 4, "mirror": True, "augmentation": preset, **options}
    return reader.TrainingRecords(path, recordio.scan(path), (3, 32, 32), **options)


def hashes(batches) -> list[str]:
    """A hash of each batch, images and labels."""
    return [hashlib.sha256(batch.images.tobytes() + batch.labels.tobytes()).hexdigest() for batch in batches]


READERS = {"opencv": reader.TrainingRecords.epoch, "imagerecorditer": imagerecorditer.read_epoch}


def test_each_reader_has_its_flag():
    assert tuple(READERS) == BACKENDS


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_an_epoch_is_a_function_of_seed_and_number(digits, level, read):
    """A run resumed at an epoch sees exactly the batches that it would have seen."""
    training = training_records(digits, level)
    run = [hashes(read(training, epoch)) for epoch in range(3)]
    assert hashes(read(training_records(digits, level), 2)) == run[2]
    assert hashes(read(training_records(digits, level, seed=1), 2)) != run[2]
    assert len({batch for epoch in run for batch in epoch}) == 3 * training.batches == 3 * 6


def test_the_number_of_threads_changes_nothing(digits):
    one, five = (training_records(digits, 3, threads=threads) for threads in (1, 5))
    assert hashes(one.epoch(0)) == hashes(five.epoch(0))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_record_is_in_one_part_and_all_have_as_many_batches(digits, parts):
    workers = [training_records(digits, part=part, num_parts=parts) for part in range(parts)]
    assert len({worker.batches for worker in workers}) == 1
    batches = np.concatenate([worker.order(3).reshape(worker.batches, 64) for worker in workers], axis=1)
    order = batches.ravel()
    assert sorted(order[:360]) == list(range(360))
    np.testing.assert_array_equal(order, np.resize(order[:360], len(order)))
    np.testing.assert_array_equal(training_records(digits, batch_size=64 * parts).order(3), order)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_epoch_goes_on_from_any_batch(digits, backend):
    training = training_records(digits, 2)
    session = SimpleNamespace(read=lambda records, epoch, skip: None)
    settings = SimpleNamespace(data=SimpleNamespace(mixup=0.0, backend=backend))
    reading = Reading(settings, engines.choose(), session, SimpleNamespace(count=1), {})
    all_of_it = hashes(reading.read_epoch(training, 1, skip=0))
    assert hashes(reading.read_epoch(training, 1, skip=4)) == all_of_it[4:] != []
    assert hashes(reading.read_epoch(training, 1, skip=training.batches)) == []


def test_the_augmentation_of_a_record_does_not_depend_on_the_parts(digits):
    """The pixels of an epoch are the same set, whoever reads them."""

    def images(training):
        kept = training.order(0)
        data = np.concatenate([batch.images for batch in training.epoch(0)])
        return {number: image.tobytes() for number, image in zip(kept, data)}

    whole = images(training_records(digits, 3))
    for part in (0, 1):
        half = images(training_records(digits, 3, part=part, num_parts=2))
        assert all(whole[number] == image for number, image in half.items())


def test_the_shuffle_goes_over_the_whole_file(digits):
    order = training_records(digits).order(0)[:360]
    ranks = np.argsort(order)
    assert abs(np.corrcoef(ranks, np.arange(360))[0, 1]) < 0.2
    assert len(set(training_records(digits).order(1)[:100]) & set(order[:100])) < 60


def test_waiting_for_data_is_counted():
    def slow():
        for number in range(3):
            time.sleep(0.05)
            yield number

    waiting = reader.Waiting(slow())
    assert list(waiting) == [0, 1, 2]
    assert waiting.seconds >= 0.15


def test_the_validation_iterator_applies_the_evaluation_transform(tmp_path):
    sizes = [(300, 400), (500, 333), (256, 256), (100, 80), (224, 1000)]
    photographs = [photograph(*size, seed) for seed, size in enumerate(sizes)]
    path = write_records(tmp_path / "photographs.rec", [png(image) for image in photographs])
    compare_with_mxnets_reader(path, photographs)


def compare_with_mxnets_reader(path, photographs):
    """The evaluation transform, our validation batches and MXNet's ImageRecordIter give the same pixels."""
    (batch,) = reader.ValidationRecords(path, recordio.scan(path), (3, 224, 224), len(photographs)).read()
    mxnets = mx.io.ImageRecordIter(
        path_imgrec=str(path), data_shape=(3, 224, 224), resize=256, batch_size=len(photographs), verbose=False
    )
    for ours, reference, image in zip(batch.images, next(mxnets).data[0].asnumpy(), photographs):
        np.testing.assert_array_equal(ours, evaluation_transform(image, (3, 224, 224)).transpose(2, 0, 1))
        np.testing.assert_array_equal(ours, reference)


def test_real_photographs_too(tmp_path, shared):
    files = sorted((shared / "imagenet_samples/images").iterdir())[::20]
    path = write_records(tmp_path / "photographs.rec", [file.read_bytes() for file in files])
    compare_with_mxnets_reader(path, [read_image(file) for file in files])


def test_digits_are_split_and_lossless(digits):
    from sklearn.datasets import load_digits

    from mxnet_resnet.data.digits import enlarge

    source = load_digits()
    seen = []
    for name, count in (("train", 1437), ("val", 360)):
        reader = mx.recordio.MXIndexedRecordIO(
            str(digits / f"digits_{name}.idx"), str(digits / f"digits_{name}.rec"), "r"
        )
        assert len(reader.keys) == count
        assert len((digits / f"digits_{name}.lst").read_text().splitlines()) == count
        shares = np.zeros(10)
        for key in reader.keys:
            header, image = mx.recordio.unpack_img(reader.read_idx(key))
            assert header.label == source.target[key]
            np.testing.assert_array_equal(image, enlarge(source.images[key]))
            shares[int(header.label)] += 1
        np.testing.assert_allclose(shares / count, np.bincount(source.target) / 1797, atol=0.002)
        seen += reader.keys
    assert sorted(seen) == list(range(1797))


def test_digits_leave_nothing_half_written(tmp_path, command, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train").write_text("a file where a folder should be")
    status, _, err = command(capsys, "tools/digits2rec.py", "--out", tmp_path / "out")
    assert status == 2 and err.startswith("error: cannot write")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train"]


def test_another_split_leaves_no_image_of_the_old_one(tmp_path, command, capsys):
    for seed in (0, 1):
        assert command(capsys, "tools/digits2rec.py", "--out", tmp_path, "--seed", seed)[0] == 0
    assert len(list((tmp_path / "val").iterdir())) == 360


def test_a_file_cut_after_it_was_looked_through_is_told(tmp_path, digits):
    path = tmp_path / "cut.rec"
    path.write_bytes((digits / "digits_val.rec").read_bytes())
    file = recordio.RecordFile(path, recordio.scan(path).offsets)
    path.write_bytes(path.read_bytes()[: file.offsets[5] + 10])
    assert file.read(4).label in range(10)
    for number in (5, 6, 359):
        with pytest.raises(UserError, match=f"record {number}, byte .*the file has changed|too short"):
            file.read(number)


def test_320_pixels_are_cropped_from_364():
    assert [short_side((3, side, side)) for side in (32, 64, 224, 320)] == [32, 64, 256, 364]


def test_an_image_that_claims_more_than_it_can_hold_is_not_decoded():
    """OpenCV would take the memory that the header of a broken image claims."""
    data = png(photograph(32, 32))
    size = struct.pack(">II", 60_000, 60_000)
    chunk = struct.pack(">I", 0x7FFF0000)
    assert decode(data).shape == (32, 32, 3)
    for broken in (data[:16] + size + data[24:], data[:33] + chunk + data[37:]):
        with pytest.raises(ImageError, match="does not decode: it"):
            decode(broken)
