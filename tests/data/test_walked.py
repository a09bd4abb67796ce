"""What is kept beside a large record file spares the walk over it, and is believed where it is true alone."""

import os
import shutil
import struct

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio, walked
from tests.helpers.recordfiles import begins, change, write_records


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, of 50 records of several forms."""
    monkeypatch.setattr(recordio, "READ_WHOLE", 1)
    images = [bytes([number]) * (number % 7) + recordio.SPLIT_AT * (number % 5 == 0) for number in range(50)]
    labels = [[float(number)] if number % 3 == 0 else float(number) for number in range(50)]
    return write_records(tmp_path / "large.rec", images, labels)


def forbid_walks(monkeypatch):
    def walk(path):
        raise AssertionError("walked")

    monkeypatch.setattr(recordio, "_read_headers", walk)


def everything(summary: recordio.Summary) -> tuple:
    return (summary, summary.digest, summary.content, summary.labels, summary.offsets.tolist())


def test_the_second_look_walks_no_more_and_sees_the_same(large, monkeypatch):
    first = recordio.scan(large)
    assert first.offsets.tolist() == begins(large) and first.labels == {*range(50)}
    forbid_walks(monkeypatch)
    assert everything(recordio.scan(large)) == everything(first)


def test_small_files_have_nothing_beside_them(large, monkeypatch):
    monkeypatch.setattr(recordio, "READ_WHOLE", 1 << 20)
    recordio.scan(large)
    assert [path.name for path in large.parent.iterdir()] == ["large.rec"]


def test_headers_are_read_as_records_are(large):
    """The quick way over whole records and the one over pieces see what the reader of records sees."""
    records = list(recordio.walk(large))
    offsets, labels = recordio._read_headers(large)
    assert offsets.tolist() == [record.offset for record in records]
    assert labels.tolist() == [record.label for record in records]


def test_a_file_of_another_time_is_walked_over_again(large, monkeypatch):
    recordio.scan(large)
    os.utime(large, ns=(0, 1))
    forbid_walks(monkeypatch)
    with pytest.raises(AssertionError, match="walked"):
        recordio.scan(large)


def test_a_file_that_grew_is_walked_over_again(large):
    recordio.scan(large)
    with large.open("ab") as file:
        file.write(large.read_bytes()[: begins(large)[1]])
    assert recordio.scan(large).count == 51


@pytest.mark.parametrize("place", [0, 1, 49])
def test_another_label_at_the_same_time_is_seen(large, place):
    """A sample as large as the file finds it for certain; all but the first and the last are drawn."""
    before, times = recordio.scan(large), large.stat()
    labels = 8 + (24 if place % 3 == 0 else 4)  # of several labels the first stands behind the header
    change(large, begins(large)[place] + labels, struct.pack("<f", 99))
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert recordio.scan(large).digest != before.digest


def test_records_that_moved_at_the_same_time_are_seen(large):
    times, data, starts = large.stat(), large.read_bytes(), begins(large)
    recordio.scan(large)
    large.write_bytes(data[starts[1] :] + data[: starts[1]])
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert recordio.scan(large).offsets.tolist() == begins(large) != starts


def test_whatever_stands_there_instead_is_not_believed(large):
    expected = everything(recordio.scan(large))
    kept = walked.find(large)
    whole = kept.read_bytes()
    title, numbers = whole.split(b"\n", 1)
    wrong = [b"", b"\n", b"[]\n", b'"x"\n', b"null\n", b'{"records": 1e99}\n', b'{"records": -1}\n' + numbers, title]
    wrong += [whole[:size] for size in range(0, len(whole), 37)]
    wrong += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 11)]
    for data in wrong:
        kept.write_bytes(data)
        assert everything(recordio.scan(large)) == expected
        assert kept.read_bytes() == whole


def test_offsets_of_another_file_with_their_own_digest_are_not_believed(large):
    expected, kept = everything(recordio.scan(large)), walked.find(large)
    offsets = np.arange(50, dtype=np.int64) * 4
    walked.write(large, walked.describe(large), offsets, np.zeros(50, np.float32))
    assert walked.read(large, recordio._see(large)) is None
    assert everything(recordio.scan(large)) == expected and kept.is_file()


def test_damage_is_told_as_ever_and_nothing_is_kept(large):
    change(large, begins(large)[7], b"x")
    with pytest.raises(UserError, match="record 7, byte"):
        recordio.scan(large)
    assert not walked.find(large).exists()


def test_a_file_that_changes_during_the_walk_is_not_kept(large):
    before = walked.describe(large)
    os.utime(large, ns=(0, 1))
    walked.write(large, before, *recordio._read_headers(large))
    assert not walked.find(large).exists()


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(large, monkeypatch):
    monkeypatch.setattr(walked, "find", lambda path: path / "below a file")
    assert recordio.scan(large).count == 50


def test_a_copy_under_another_name_is_looked_at_by_itself(large, tmp_path):
    recordio.scan(large)
    other = tmp_path / "other.rec"
    shutil.copy2(large, other)
    assert recordio.scan(other) == recordio.scan(large)
    assert sorted(path.name for path in tmp_path.glob("*.walked")) == ["large.rec.walked", "other.rec.walked"]
