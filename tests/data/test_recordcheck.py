"""mxnet_resnet.data.check: what it finds in damaged bytes, and in the order of labels."""

import math
import random
import resource
import struct
import time
from contextlib import suppress

import cv2
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import check, imageheader, recordio
from mxnet_resnet.data.decoding import decode
from tests.helpers.pictures import jpeg, photograph, png
from tests.helpers.recordfiles import begins, change, contents, header, mutated, write_records


def test_records_that_are_cut_at_the_magic_word_are_whole(tmp_path):
    image = png(photograph(9, 9))
    hidden = image + recordio.SPLIT_AT * 3 + b"abc" + recordio.SPLIT_AT
    path = write_records(tmp_path / "a.rec", [image + bytes(-len(image) % 4) + recordio.SPLIT_AT, hidden, image])
    report = check.check_file(path)
    assert not report.findings and [*report.numbers] == [0, 1, 2]
    assert [*report.offsets] == begins(path)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"\0\0\0\0", "0x00000000 stands where 0xced7230a should"),
        (b"\0" * 8, "0x00000000 stands where"),
        (header(1 << 28), "the file ends before"),
        (header(200), "follow it"),
        (header(4), "follow it"),
        (header(4000), "leads over the header at byte"),
        (header(200, flag=1), "stands where"),
        (header(200, flag=2), "a piece of a record stands where it cannot"),
        (header(200, flag=7), "a piece of a record stands where it cannot"),
    ],
)
@pytest.mark.parametrize("number", [0, 5, 11])
def test_a_damaged_header_hides_no_other_record(twelve, data, message, number):
    places, good = begins(twelve), contents(twelve)
    if number == 11:
        message = message.replace("leads over the header at byte", "the file ends before")
    change(twelve, places[number], data)
    report = check.check_file(twelve)
    assert [finding.record for finding in report.findings] == [number]
    assert places[number] <= report.findings[0].byte < [*places, 1 << 40][number + 1]
    assert message in report.findings[0].message or data == header(200, flag=1)
    assert [*report.offsets] == places[:number] + places[number + 1 :]
    assert len(good) - 1 == len(report.numbers)


def test_each_flipped_bit_of_a_header_is_found_in_its_record(twelve):
    places, data = begins(twelve), bytearray(twelve.read_bytes())
    for bit in range(64):
        flipped = bytearray(data)
        flipped[places[4] + bit // 8] ^= 1 << bit % 8
        twelve.write_bytes(flipped)
        report = check.check_file(twelve)
        harmless = not report.findings  # a length that counts some bytes of padding
        assert harmless or ({finding.record for finding in report.findings} == {4} and len(report.numbers) == 11), bit
        assert not harmless or 32 <= bit < 34


def test_a_file_cut_anywhere_keeps_the_records_before(twelve):
    places, data = begins(twelve), twelve.read_bytes()
    for size in range(1, len(data), 61):
        twelve.write_bytes(data[:size])
        whole = sum(place <= size for place in [*places[1:], len(data)])
        report = check.check_file(twelve)
        assert len(report.numbers) >= whole
        if size not in places:
            assert [finding.record for finding in report.findings] == [whole]


def test_lost_and_inserted_bytes_cost_one_record(twelve):
    places, data = begins(twelve), twelve.read_bytes()
    middle = places[6] + 60
    for changed in (data[:middle] + data[middle + 1 :], data[:middle] + b"xyz" + data[middle:]):
        twelve.write_bytes(changed)
        report = check.check_file(twelve)
        assert [finding.record for finding in report.findings] == [6] and len(report.numbers) == 11


def test_padding_that_is_missing_is_told(tmp_path):
    image = png(photograph(8, 8))
    image += bytes(1 - len(image) % 4 + 4)
    path = write_records(tmp_path / "a.rec", [image])
    path.write_bytes(path.read_bytes()[:-2])
    report = check.check_file(path)
    assert "padding" in report.findings[0].message and len(report.numbers) == 1


def test_an_image_that_claims_gigabytes_is_not_decoded(tmp_path):
    image = bytearray(jpeg(photograph(16, 16)))
    at = image.index(b"\xff\xc0")
    image[at + 5 : at + 9] = struct.pack(">HH", 30000, 30000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = check.check_file(write_records(tmp_path / "a.rec", [bytes(image)]))
    assert "claim 30000x30000 pixels" in report.findings[0].message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_the_stored_shape_is_read():
    colour, grey = photograph(12, 17), photograph(12, 17)[:, :, 0]
    for encode in (lambda image: cv2.imencode(".jpg", image)[1], lambda image: cv2.imencode(".png", image)[1]):
        assert imageheader.stored_shape(encode(colour).tobytes()) == (17, 12, 3)
        assert imageheader.stored_shape(encode(grey).tobytes()) == (17, 12, 1)
    transparent = cv2.imencode(".png", np.dstack([colour, grey]))[1].tobytes()
    assert imageheader.stored_shape(transparent) == (17, 12, 4)
    for cut in range(40):
        imageheader.stored_shape(jpeg(colour)[:cut])


def test_real_photographs_have_the_shape_that_they_say(shared):
    for file in sorted((shared / "imagenet_samples/images").iterdir())[::4]:
        data = file.read_bytes()
        width, height, _ = imageheader.stored_shape(data)
        assert {width, height} == set(decode(data).shape[:2])


def order(labels) -> check.Order:
    result = check.Order()
    for label in labels:
        result.add(label)
    return result


def test_the_changes_of_a_random_order_are_as_expected():
    rng = np.random.default_rng(0)
    labels = [0] * 30 + [1] * 9 + [2] * 17 + [3]
    changes = [order(rng.permutation(labels)).changes for _ in range(2000)]
    mean, deviation = order(labels).expected()
    assert abs(np.mean(changes) - mean) < 4 * deviation / math.sqrt(2000)
    assert np.std(changes) == pytest.approx(deviation, rel=0.06)


@pytest.mark.parametrize("classes, each", [(2, 20), (2, 500), (10, 20), (1000, 2), (1000, 13)])
def test_sorted_labels_are_reported_and_shuffled_ones_are_not(classes, each):
    labels = np.repeat(np.arange(classes), each)
    assert order(labels).unshuffled() and order(labels[::-1]).unshuffled()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert not order(rng.permutation(labels)).unshuffled()


@pytest.mark.parametrize("classes, each, run", [(2, 500, 4), (10, 20, 4), (1000, 2, 2), (1000, 12, 3)])
def test_nearly_sorted_labels_are_reported(classes, each, run):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes), each)
        assert order(rng.permutation(labels.reshape(-1, run)).ravel()).unshuffled()
        places = rng.choice(len(labels), len(labels) // 5, replace=False)
        labels[places] = rng.permutation(labels[places])
        assert order(labels).unshuffled()


def test_rare_classes_and_single_ones_pass():
    rng = np.random.default_rng(0)
    assert not any(order(rng.permutation([0] * 990 + [1] * 10)).unshuffled() for _ in range(50))
    assert order([0] * 900 + [1] * 100).unshuffled()
    assert not order(range(500)).unshuffled() and not order([3] * 500).unshuffled() and not order([]).unshuffled()


def test_no_mutated_file_breaks_the_readers(twelve, tmp_path):
    data, rng, path = twelve.read_bytes(), random.Random(0), tmp_path / "mutated.rec"
    damaged = 0
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        changed = mutated(data, rng)
        path.write_bytes(changed)
        for read in (recordio.scan, lambda path: [*recordio.walk(path)]):
            with suppress(UserError):
                read(path)
        report = check.check_file(path)
        assert len(report.numbers) <= report.records and report.wrong == len(report.findings)
        assert all(0 <= finding.byte <= len(changed) and finding.record >= 0 for finding in report.findings)
        damaged += bool(report.findings)
    assert damaged > 2000
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
