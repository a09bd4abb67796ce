"""tools/check_rec.py: what it tells of records and their index, its statistics and sheet, and repair."""

import json
import math
import random
import struct
import tracemalloc
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.data import check, recordio
from mxnet_resnet.data.decoding import decode
from tests.helpers.pictures import jpeg, photograph, png
from tests.helpers.recordfiles import begins, change, contents, header, mutated, pack, write_records, written

CHECK = "tools/check_rec.py"
TRAIN = "digits_train.rec"


def found(path: Path) -> list[tuple[int, int]]:
    """The (record, byte) of each finding in a file."""
    return [(finding.record, finding.byte) for finding in check.check_file(path).findings]


def test_clean_files_pass(digits, command, capsys):
    status, out, _ = command(capsys, CHECK, digits / TRAIN, digits / "digits_val.rec")
    assert status == 0
    assert f"{digits / TRAIN}: 1,437 records, 1,437 of them good" in out and "note" not in out
    assert "labels: 10 from 0 to 9, 0 missing between; 139 (label 8) to 146 (label 1) images each" in out


def test_a_file_of_mxnets_own_writer_passes(tmp_path, command, capsys):
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "m.idx"), str(tmp_path / "m.rec"), "w")
    for i in range(9):
        label = [float(i % 3)] if i % 2 else float(i % 3)
        writer.write_idx(i, pack(label, i, png(photograph(9, 9, i))))
    writer.close()
    status, out, _ = command(capsys, CHECK, tmp_path / "m.rec")
    assert status == 0 and out.startswith(f"{tmp_path}/m.rec: 9 records, 9 of them good") and "note" not in out


@pytest.mark.parametrize(
    "image, label, message",
    [
        (b"", 0.0, "the image does not decode: it has 0 bytes"),
        (b"no image", 0.0, "does not decode"),
        (png(photograph(32, 32))[:60], 0.0, "does not decode"),
        (jpeg(photograph(32, 32))[:-9], 0.0, "does not decode"),
        (None, 1.5, "the label 1.5 is no whole number"),
        (None, -1.0, "the label -1.0 is no whole number"),
        (None, math.nan, "the label nan"),
        (None, math.inf, "the label inf"),
        (None, [1.0, 2.0], "2 labels"),
    ],
)
def test_a_bad_image_or_label_is_told_with_its_place(tmp_path, image, label, message, command, capsys):
    good = png(photograph(8, 8))
    images, labels = [good] * 5, [0.0] * 5
    images[3], labels[3] = good if image is None else image, label
    path = write_records(tmp_path / "a.rec", images, labels)
    status, out, _ = command(capsys, CHECK, path)
    assert status == 1
    assert out.startswith(f"{path}, record 3, byte {3 * begins_of_equal(good)}: ") and message in out.splitlines()[0]
    assert "5 records, 4 of them good" in out


def begins_of_equal(image: bytes) -> int:
    """Bytes that a record of an image takes."""
    return 8 + 24 + len(image) + -len(image) % 4


@pytest.fixture
def index(twelve) -> Path:
    return twelve.with_suffix(".idx")


def changed_index(index: Path, change) -> None:
    lines = [line.split() for line in index.read_text().splitlines()]
    index.write_text("".join("\t".join(line) + "\n" for line in change(lines)))


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda lines: lines[:7] + lines[8:], "a.rec, record 7, byte {7}: a.idx has no entry for it"),
        (lambda lines: [*lines, ["112", "99999"]], "a.idx, line 13, byte 99999: no record begins there (key 112)"),
        (lambda lines: [*lines, ["103", lines[3][1]]], "line 13, record 3, byte {3}: its key 103 stands in line 4"),
        (
            lambda lines: [*lines, ["300", lines[3][1]]],
            "line 13, record 3, byte {3}: it leads to the record that line 4",
        ),
        (lambda lines: [*lines, ["x", "y"]], "a.idx, line 13: b'x\\ty\\n' is no key and offset"),
        (
            lambda lines: [["102", lines[1][1]], *lines[2:]],
            "line 1, record 1, byte {1}: its key is 102, and the record",
        ),
    ],
)
def test_what_is_wrong_in_the_index_is_told(twelve, index, change, expected, command, capsys):
    changed_index(index, change)
    status, out, _ = command(capsys, CHECK, twelve)
    assert status == 1 and "12 of them good" in out
    assert expected.format(*begins(twelve)) in out


def test_the_index_of_another_file_is_one_finding(twelve, index, digits, command, capsys):
    index.write_bytes((digits / "digits_val.idx").read_bytes())
    status, out, _ = command(capsys, CHECK, twelve)
    assert status == 1 and len(out.splitlines()) == 8
    assert "a.idx, line 2, byte" in out and "and so on 359 times: it is the index of another file" in out


def test_an_index_without_entries_or_no_index(twelve, index, command, capsys):
    index.write_bytes(b"")
    status, out, _ = command(capsys, CHECK, twelve)
    assert status == 1 and "a.rec, record 0, byte 0: a.idx has no entry for it, and so on 12 times" in out
    index.unlink()
    status, out, _ = command(capsys, CHECK, twelve)
    assert status == 0 and "note: there is no a.idx beside it" in out


def test_damage_is_not_told_again_for_the_index(twelve, command, capsys):
    places = begins(twelve)
    change(twelve, places[4], b"\0\0\0\0")
    change(twelve, places[8] + 40, b"\0" * 20)
    status, out, _ = command(capsys, CHECK, twelve)
    assert status == 1 and sum(line.startswith(f"{twelve}, record") for line in out.splitlines()) == 2
    assert ".idx" not in out


def test_a_sorted_file_is_told_with_its_longest_run(digits, tmp_path, command, capsys):
    records = sorted(contents(digits / "digits_val.rec"), key=lambda record: record[0])
    path = written(tmp_path / "sorted", [image for _, image in records], [label for label, _ in records])
    status, out, _ = command(capsys, CHECK, path)
    assert (
        status == 1 and "not shuffled: labels change 9 times from record to record, in a random order about 324" in out
    )
    first = [label for label, _ in records].index(3)
    assert out.startswith(f"{path}, record {first}, byte {begins(path)[first]}: ") and "here begin 37 records" in out


def test_statistics_are_numpys(twelve, command, capsys):
    images = [decode(image) for _, image in contents(twelve)]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64)
    status, out, _ = command(capsys, CHECK, twelve, "--json")
    told = json.loads(out)["files"][0]
    assert status == 0 and told["records"] == told["good"] == 12 and told["findings"] == []
    np.testing.assert_allclose(told["mean"], pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(told["deviation"], pixels.std(0), rtol=1e-12)
    for axis, side in enumerate(("height", "width")):
        sizes = [image.shape[axis] for image in images]
        assert told[side] == {"min": min(sizes), "median": np.median(sizes), "max": max(sizes)}
    assert told["labels"] == {"0": 3, "1": 3, "2": 3, "3": 3} and told["missing_labels"] == 0


def test_grey_images_and_missing_labels_are_counted(tmp_path, command, capsys):
    grey, colour = jpeg(photograph(8, 8)[:, :, 0]), jpeg(photograph(8, 8))
    path = write_records(tmp_path / "a.rec", [grey, colour, colour + b"\0"], labels=[0.0, 5.0, 3.0])
    status, out, _ = command(capsys, CHECK, path)
    assert status == 0 and "stored channels: 1 with 1, 2 with 3" in out and "3 from 0 to 5, 3 missing" in out
    assert "note: no image has the label 1, 2, 4" in out
    path = write_records(tmp_path / "b.rec", [colour] * 3, labels=[2.0, 34.0, 3.0])
    out = command(capsys, CHECK, path)[1]
    assert (
        "3 from 2 to 34, 30 missing between" in out and "the label 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 and 20 more" in out
    )
    assert "note: the labels begin at 2: a net's classes begin at 0" in out


def test_copies_are_notes(twelve, tmp_path, command, capsys):
    records = contents(twelve)
    other = written(tmp_path / "b", [b for _, b in (records[5], *records[:2], records[1])], [0.0, 1.0, 2.0, 1.0])
    status, out, _ = command(capsys, CHECK, twelve, other)
    assert status == 0
    assert f"note: {other}: 1 images are copies (record 3 of record 2)" in out
    assert f"note: {other}: 4 images are in {twelve} too (record 0 is record 5 there)" in out


def test_the_sheet_shows_images(digits, tmp_path, command, capsys):
    sheets = []
    for seed in (0, 0, 1):
        status, *_ = command(capsys, CHECK, digits / TRAIN, "--sheet", tmp_path / "s.png", "--seed", seed)
        assert status == 0
        sheets.append((tmp_path / "s.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]
    assert cv2.imdecode(np.frombuffer(sheets[0], np.uint8), 1).shape == (8 * 148, 8 * 128, 3)


def test_repair_keeps_exactly_the_good_records(twelve, tmp_path, command, capsys):
    places, records = begins(twelve), contents(twelve)
    change(twelve, places[2], b"\0\0\0\0")
    change(twelve, places[5] + 12, struct.pack("<f", 0.5))
    change(twelve, places[8] + 32, b"\0" * 20)
    with twelve.open("r+b") as file:
        file.truncate(places[11] + 50)
    status, out, _ = command(capsys, CHECK, twelve, "--repair", tmp_path / "new" / "b.rec")
    assert status == 1 and [line.split(",")[1] for line in out.splitlines()[:4]] == [
        f" record {i}" for i in (2, 5, 8, 11)
    ]
    repaired = tmp_path / "new" / "b.rec"
    good = [i for i in range(12) if i not in (2, 5, 8, 11)]
    assert contents(repaired) == [records[i] for i in good]
    listed = [line.split("\t") for line in repaired.with_suffix(".lst").read_text().splitlines()]
    assert listed == [[str(100 + i), f"{records[i][0]:g}", f"{i}.png"] for i in good]
    reader = mx.recordio.MXIndexedRecordIO(str(repaired.with_suffix(".idx")), str(repaired), "r")
    assert mx.recordio.unpack(reader.read_idx(104))[1] == records[4][1]
    status, out, _ = command(capsys, CHECK, repaired)
    assert status == 0 and "8 records, 8 of them good" in out


def test_a_sentence_is_not_repeated_for_each_record(twelve, tmp_path, command, capsys):
    """Of a file without images, whose records all differ; other findings are told beside."""
    path = write_records(tmp_path / "b.rec", [b"text " * number for number in range(1, 41)], [*[0.0] * 39, 0.5])
    status, out, _ = command(capsys, CHECK, path)
    told = [line for line in out.splitlines() if "does not decode" in line]
    assert status == 1 and len(told) == check.ALIKE
    assert f"{path}: 34 findings more like this one" in out and "record 39" in out and "no whole number" in out
    assert json.loads(command(capsys, CHECK, path, "--json")[1])["files"][0]["wrong"] == 40


def test_repair_shuffles_what_is_in_order(digits, tmp_path, command, capsys):
    records = sorted(contents(digits / "digits_val.rec"), key=lambda record: record[0])
    path = written(tmp_path / "sorted", [image for _, image in records], [label for label, _ in records])
    status, out, _ = command(capsys, CHECK, path, "--repair", tmp_path / "new")
    assert status == 1 and f"{tmp_path}/new.rec: 360 good records of 360, shuffled" in out
    assert command(capsys, CHECK, tmp_path / "new.rec")[0] == 0
    assert sorted(contents(tmp_path / "new.rec")) == sorted(records)
    listed = [line.split("\t") for line in (tmp_path / "new.lst").read_text().splitlines()]
    assert [(float(label), key) for key, label, _ in listed] == [
        (record[0], str(100 + records.index(record))) for record in contents(tmp_path / "new.rec")
    ]


def test_repair_numbers_records_whose_ids_repeat(tmp_path, command, capsys):
    path = write_records(tmp_path / "a.rec", [png(photograph(8, 8))] * 3)
    path.write_bytes(path.read_bytes() * 2)
    assert command(capsys, CHECK, path, "--repair", tmp_path / "b")[0] == 0
    assert (tmp_path / "b.lst").read_text() == "".join(f"{i}\t0\ta-{i}\n" for i in range(6))
    assert command(capsys, CHECK, tmp_path / "b.rec")[0] == 0


def test_what_cannot_be_done_is_refused(twelve, tmp_path, command, capsys):
    (tmp_path / "link.rec").symlink_to(twelve)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused = [
        ([], "required"),
        ([tmp_path / "none.rec"], "there is no record file"),
        ([tmp_path], "there is no record file"),
        ([twelve, "--repair", twelve], "would write over"),
        ([twelve, "--repair", tmp_path / "a"], "would write over"),
        ([twelve, "--repair", tmp_path / "link.rec"], "would write over"),
        ([twelve, twelve, "--repair", tmp_path / "b"], "one file at a time"),
        ([twelve, "--sheet", tmp_path / "s.jpg"], "end in .png"),
        ([twelve, "--repair", "/proc/no/b"], "cannot write"),
    ]
    for arguments, message in refused:
        status, _, err = command(capsys, CHECK, *arguments)
        assert status == 2 and err.startswith("error: ") and message in err and len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_empty_file_and_one_without_a_good_record(tmp_path, command, capsys):
    (tmp_path / "a.rec").touch()
    status, out, _ = command(capsys, CHECK, tmp_path / "a.rec", "--sheet", tmp_path / "s.png")
    assert status == 1 and out.startswith(f"{tmp_path}/a.rec, record 0, byte 0: the file is empty")
    (tmp_path / "a.rec").write_bytes(b"no records at all")
    status, _, err = command(capsys, CHECK, tmp_path / "a.rec", "--repair", tmp_path / "b")
    assert status == 2 and "no good record" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.rec"]


def test_findings_are_kept_up_to_a_limit(tmp_path, command, capsys):
    (tmp_path / "a.rec").write_bytes(header(0) * 5000)
    tracemalloc.start()
    report = check.check_file(tmp_path / "a.rec")
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
    assert report.wrong == 5000 and len(report.findings) == 1000 and report.bad == [(0, 40000)]
    out = command(capsys, CHECK, tmp_path / "a.rec")[1].splitlines()
    assert len(out) == check.ALIKE + 3 and out[check.ALIKE] == f"{tmp_path}/a.rec: 4,995 findings more like this one"


def test_no_mutated_file_breaks_the_command(twelve, index, tmp_path, command, capsys):
    data, entries, rng = twelve.read_bytes(), index.read_bytes(), random.Random(1)
    for i in range(100):
        twelve.write_bytes(mutated(data, rng))
        index.write_bytes(mutated(entries, rng))
        out = tmp_path / f"out{i}"
        status, _, err = command(capsys, CHECK, twelve, "--repair", out, "--sheet", tmp_path / "s.png")
        assert status in (0, 1) or "no good record" in err
        if status != 2:
            assert recordio.scan(out.with_suffix(".rec"), decoding=True).count
            assert found(out.with_suffix(".rec")) == []
