"""RecordIO files of images, walked over without MXNet: counts, labels and damage."""

from __future__ import annotations

import hashlib
import mmap
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import read_at
from mxnet_resnet.data import walked
from mxnet_resnet.data.decoding import ImageError, decode_bgr, looks_plain
from mxnet_resnet.data.imagebounds import explain_size
from mxnet_resnet.data.imageheader import find_format, stored_shape

# dmlc-core, include/dmlc/recordio.h: magic, then 3 bits of continuation flag and 29 of length, then the data to the
# next multiple of 4. MXNet puts an image header before the data: flag, label, two ids.
MAGIC = 0xCED7230A
RECORD_HEADER = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")
PLAIN_HEADER = struct.Struct("<IIIf")  # of a whole record: magic, length, how many labels besides, label
LARGEST_PIECE = (1 << 29) - 1
WHOLE, FIRST_PART, MIDDLE_PART, LAST_PART = range(4)
FOLLOWING = {
    WHOLE: (WHOLE, FIRST_PART),
    FIRST_PART: (MIDDLE_PART, LAST_PART),
    MIDDLE_PART: (MIDDLE_PART, LAST_PART),
    LAST_PART: (WHOLE, FIRST_PART),
}
HEAD = 1024  # bytes in which most JPEGs tell their size
DECODED_AHEAD = 256  # records: few enough to bound the memory
READ_WHOLE = 1 << 28  # bytes of a file that is known again by all of them; a larger one by
SAMPLED = 2000  # of its records, in which one that is exchanged in 500 is missed once in 50 times
SPLIT_AT = struct.pack("<I", MAGIC)  # a record is cut where its data have the magic word, which is left out


@dataclass(frozen=True)
class Summary:
    """What a record file holds; ``offsets`` are the first bytes of the records, ``digest`` is of these and the labels,
    ``content`` of the bytes of the records, all of them or a sample.

    ``labels`` are those that there are.
    """

    count: int
    min_label: float
    max_label: float
    offsets: np.ndarray = field(compare=False, repr=False)
    digest: str = field(default="", compare=False)
    content: str = field(default="", compare=False)
    labels: frozenset[int] = field(default=frozenset(), compare=False, repr=False)


class Record(NamedTuple):
    """One image of a record file; ``where`` names the file, the record and its first byte."""

    label: float
    offset: int
    image: bytes
    where: str


class RecordError(UserError):
    """A record that cannot be used: ``where`` it is, and the ``reason``."""

    def __init__(self, where: str, reason: str):
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type[RecordError], tuple[str, str]]:
        return RecordError, (self.where, self.reason)


def scan(path: Path, decoding: bool = False, content: bool = True) -> Summary:
    """Walk over a record file, by its headers alone or ``decoding`` every image; without ``content`` no digest is made
    of the bytes, by which a run knows its records again.

    What is found of a large file by its headers is kept beside it, and seen to be true in place of the next walk
    (walked.py). Raises UserError where the file is missing, empty, cut short or damaged, or a label is no whole number.
    """
    large = path.is_file() and path.stat().st_size > READ_WHOLE
    found = walked.read(path, _see(path)) if large and not decoding else None
    if found is None:
        before = walked.describe(path) if large else None
        found = _decode_all(path) if decoding else _read_headers(path)
        _check_whole(path, *found)
        if before is not None:
            walked.write(path, before, *found)
    offsets, labels = found
    digest = walked.digest(offsets, labels)
    there = frozenset(np.unique(labels).astype(np.int64).tolist())
    of_bytes = _digest_content(path, offsets, int(digest[:15], 16)) if content else ""
    return Summary(len(offsets), min(there), max(there), offsets, digest, of_bytes, there)


def _check_whole(path: Path, offsets: np.ndarray, labels: np.ndarray) -> None:
    """Raise UserError where there is no record, or a label is no whole number."""
    if not len(offsets):
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero((np.floor(labels) != labels) | np.isinf(labels))
    if len(wrong):
        where = f"{path}, record {wrong[0]}, byte {offsets[wrong[0]]}"
        raise RecordError(where, f"the label {float(labels[wrong[0]])} is no whole number")


def _digest_content(path: Path, offsets: np.ndarray, key: int) -> str:
    """SHA-256 of the bytes of records: of all where they are no more than `READ_WHOLE`, else of `SAMPLED` of them that
    ``key`` draws.
    """
    digest = hashlib.sha256()
    if path.stat().st_size <= READ_WHOLE:
        with mapped(path) as data:
            digest.update(data)
        return digest.hexdigest()
    records = RecordFile(path, offsets)
    some = np.random.default_rng(key).choice(len(offsets), min(SAMPLED, len(offsets)), replace=False)
    for number in np.sort(some).tolist():
        offset, end = map(int, records.find(number))
        digest.update(read_at(records.file, end - offset, offset))
    return digest.hexdigest()


def describe_sampling(path: Path, summary: Summary) -> list[str]:
    """A sentence on what a large file is known again by; none of one whose bytes are all looked at."""
    if path.stat().st_size <= READ_WHOLE or summary.count <= SAMPLED:
        return []
    return [
        f"{path} is known again by its offsets and labels, and the bytes of {SAMPLED:,} of {summary.count:,} records"
    ]


def _read_headers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The offsets (N,), int64, and labels (N,), float32; of the images, no byte is read."""
    offsets, labels = array("q"), array("f")
    with mapped(path) as data:
        offset = _read_plain_headers(data, 0, offsets, labels)
        while offset < len(data):
            for _, at, flag, start, length in pieces(data, path, offset, len(offsets)):
                if flag in (WHOLE, FIRST_PART):
                    where = f"{path}, record {len(offsets)}, byte {at}"
                    header = data[start : start + min(length, IMAGE_HEADER.size + 4)]
                    label, _ = _label(header, length if flag == WHOLE else LARGEST_PIECE, where)
                    offsets.append(at)
                    labels.append(label)
                if flag in (WHOLE, LAST_PART):
                    break
            offset = _read_plain_headers(data, start + (length + 3) // 4 * 4, offsets, labels)
    return np.frombuffer(offsets, np.int64), np.frombuffer(labels, np.float32)


def _read_plain_headers(data: mmap.mmap, offset: int, offsets: array, labels: array) -> int:
    """Note whole records of one label from ``offset`` on, as most are; the first byte of one that is not, or the end.

    As `pieces`, in a fifth of its time.
    """
    read, size = PLAIN_HEADER.unpack_from, len(data)
    last = size - RECORD_HEADER.size - IMAGE_HEADER.size
    while offset <= last:
        magic, length, several, label = read(data, offset)
        start = offset + RECORD_HEADER.size
        if magic != MAGIC or several or not IMAGE_HEADER.size <= length <= min(LARGEST_PIECE, size - start):
            break
        offsets.append(offset)
        labels.append(label)
        offset = start + (length + 3) // 4 * 4
    return offset


def _see(path: Path) -> walked.See:
    """Looks at the header of a record between its first byte and its end: its label."""

    def see(offset: int, end: int) -> float:
        with path.open("rb") as file:
            data = read_at(file, RECORD_HEADER.size + IMAGE_HEADER.size + 4, offset)
        where = f"{path}, byte {offset}"
        if len(data) < RECORD_HEADER.size:
            raise RecordError(where, "the file ends inside of a record header")
        magic, word = RECORD_HEADER.unpack_from(data)
        flag, length = word >> 29, word & LARGEST_PIECE
        last = offset + RECORD_HEADER.size + length
        found = magic == MAGIC and flag in (WHOLE, FIRST_PART) and last <= end
        if not found or (flag == WHOLE and end - last > 3):
            raise RecordError(where, f"there is no record that ends at byte {end}")
        return _label(data[RECORD_HEADER.size :], length if flag == WHOLE else LARGEST_PIECE, where)[0]

    return see


def _decode_all(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As `_read_headers`, each image decoded to see that it can be."""
    offsets, labels = array("q"), array("f")
    for record, problem in compute_ahead(_explain_image, walk(path), cores(), DECODED_AHEAD):
        if problem:
            raise RecordError(record.where, problem)
        offsets.append(record.offset)
        labels.append(record.label)
    return np.frombuffer(offsets, np.int64), np.frombuffer(labels, np.float32)


def _explain_image(record: Record) -> str:
    """What is wrong with the image of a record, or nothing."""
    try:
        decode_bgr(record.image)
    except ImageError as error:
        return f"the image {error}"
    return ""


def check_plain(path: Path, summary: Summary, reader: str) -> None:
    """Raise UserError for an image that ``reader``, which looks at colours alone, sees otherwise than `decode_bgr`, and
    for one that claims too many pixels.
    """
    records = RecordFile(path, summary.offsets)
    with mapped(path) as data:
        ends = [*summary.offsets[1:].tolist(), len(data)]
        for number, offset in enumerate(summary.offsets.tolist()):
            start = offset + RECORD_HEADER.size
            _, begin = _label(data[start : start + IMAGE_HEADER.size + 4], LARGEST_PIECE, "")
            head = data[start + begin : start + begin + HEAD]
            if find_format(head) == "JPEG":
                whole = head if stored_shape(head)[0] else records.read(number).image  # mostly not: these can be many
                if reason := explain_size(*stored_shape(whole)[:2], ends[number] - start - begin):
                    raise RecordError(f"{path}, record {number}, byte {offset}", f"the image does not decode: {reason}")
                continue
            record = records.read(number)
            if not looks_plain(record.image):
                raise RecordError(
                    record.where,
                    f"{reader} does not see its image as all else does (it is transparent, of an unusual format, or "
                    "turned): take --data-backend opencv",
                )


def walk(path: Path) -> Iterator[Record]:
    """The records in the order of the file. Raises UserError as ``scan`` does."""
    parts: list[bytes] = []
    with mapped(path) as data:
        for number, offset, flag, start, length in pieces(data, path):
            if flag in (WHOLE, FIRST_PART):
                parts, begin, where = [], offset, f"{path}, record {number}, byte {offset}"
            parts.append(data[start : start + length])
            if flag in (WHOLE, LAST_PART):
                yield as_record(SPLIT_AT.join(parts), begin, where)


class RecordFile:
    """Records in any order, by threads at once; the offsets are those of ``scan``."""

    def __init__(self, path: Path, offsets: Sequence[int] | np.ndarray):
        self.path, self.offsets = path, offsets
        self.file = sources.open_file(path, "records")
        self._size = path.stat().st_size

    def read(self, number: int) -> Record:
        """Record ``number`` of the file. Raises UserError where it is not whole any more."""
        end = int(self.offsets[number + 1]) if number + 1 < len(self.offsets) else self._size
        return read_record(self.file, self.path, number, int(self.offsets[number]), end)

    def find(self, numbers: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """The first bytes of records (N,), and those behind their last (N,)."""
        offsets = np.asarray(self.offsets)
        following = np.minimum(numbers + 1, len(offsets) - 1)
        return offsets[numbers], np.where(numbers + 1 < len(offsets), offsets[following], self._size)


def read_record(file: BinaryIO, path: Path | str, number: int, offset: int, end: int) -> Record:
    """The record that lies between two bytes of a file. Raises UserError where it is not whole any more."""
    where = f"{path}, record {number}, byte {offset}"
    data = read_at(file, end - offset, offset)  # not mapped: a file cut meanwhile would kill
    parts = []
    try:
        for _, _, flag, start, length in pieces(data, path):
            parts.append(data[start : start + length])
            if flag in (WHOLE, LAST_PART):
                break
    except UserError as error:
        raise RecordError(where, "the file has changed since it was looked through") from error
    return as_record(SPLIT_AT.join(parts), offset, where)


def as_record(data: bytes, offset: int, where: str) -> Record:
    """The image record that ``data`` is. Raises UserError."""
    label, begin = _label(data, len(data), where)
    return Record(label, offset, data[begin:], where)


def _label(data: bytes, length: int, where: str) -> tuple[float, int]:
    """The label of a record of ``length`` bytes, of which ``data`` is the beginning, and where its image begins."""
    if length < IMAGE_HEADER.size:
        raise RecordError(where, f"{length} bytes are too short for an image record")
    labels, label, _, _ = IMAGE_HEADER.unpack_from(data)
    begin = IMAGE_HEADER.size + 4 * labels
    if labels > 1 or begin > length:
        raise RecordError(where, f"the record has {labels} labels, and images here have one")
    if labels:
        (label,) = struct.unpack_from("<f", data, IMAGE_HEADER.size)
    return label, begin


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A record file as memory. Raises UserError where it is missing or empty."""
    if not path.is_file():
        raise UserError(f"there is no record file {path}: make it, with tools/ or im2rec, or check --data-dir")
    if not path.stat().st_size:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    with sources.open_file(path, "records") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def pieces(
    data: mmap.mmap | bytes, path: Path | str, offset: int = 0, number: int = 0
) -> Iterator[tuple[int, int, int, int, int]]:
    """The (number of the record, byte offset, continuation flag, first byte and length of the data) of each piece.

    Begins with the record ``number`` at ``offset``.
    """
    flag = WHOLE
    number -= 1
    while offset < len(data):
        before = flag
        where = f"{path}, record {number + (before in (WHOLE, LAST_PART))}, byte {offset}"
        if offset + RECORD_HEADER.size > len(data):
            raise RecordError(where, "the file ends inside of a record header")
        magic, word = RECORD_HEADER.unpack_from(data, offset)
        flag, length = word >> 29, word & LARGEST_PIECE
        start = offset + RECORD_HEADER.size
        if magic != MAGIC:
            raise RecordError(where, f"{magic:#010x} stands where {MAGIC:#010x} should: the file is damaged")
        if flag not in FOLLOWING[before]:
            raise RecordError(where, "a piece of a record stands where it cannot: the file is damaged")
        if start + length > len(data):
            raise RecordError(where, f"the record should have {length} bytes, and the file ends before")
        number += flag in (WHOLE, FIRST_PART)
        yield number, offset, flag, start, length
        offset = start + (length + 3) // 4 * 4
    if flag not in (WHOLE, LAST_PART):
        raise RecordError(f"{path}, record {number}", "the file ends inside of the record")


def check_labels(path: Path, summary: Summary, num_classes: int) -> None:
    """Raise UserError unless all labels are classes of a net that has ``num_classes``."""
    if summary.min_label < 0 or summary.max_label >= num_classes:
        raise UserError(
            f"{path} has labels from {summary.min_label:g} to {summary.max_label:g}, and a net of {num_classes} "
            f"classes knows 0 to {num_classes - 1}"
        )
