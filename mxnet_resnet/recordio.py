"""RecordIO files of images, walked over without MXNet: counts, labels and damage."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mxnet_resnet.errors import UserError
from mxnet_resnet.preprocess import decode

# dmlc-core, include/dmlc/recordio.h: magic, then 3 bits of continuation flag and 29 of length, then the data to the
# next multiple of 4. MXNet puts an image header before the data: flag, label, two ids.
MAGIC = 0xCED7230A
RECORD_HEADER = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST_PART, MIDDLE_PART, LAST_PART = range(4)
FOLLOWING = {
    WHOLE: (WHOLE, FIRST_PART),
    FIRST_PART: (MIDDLE_PART, LAST_PART),
    MIDDLE_PART: (MIDDLE_PART, LAST_PART),
    LAST_PART: (WHOLE, FIRST_PART),
}
SPLIT_AT = struct.pack("<I", MAGIC)  # a record is cut where its data have the magic word, which is left out


@dataclass(frozen=True)
class Summary:
    """What a record file holds."""

    count: int
    min_label: float
    max_label: float


class Record(NamedTuple):
    """One image of a record file; ``where`` names the file, the record and its first byte."""

    label: float
    offset: int
    image: bytes
    where: str


def scan(path: Path, decoding: bool = False) -> Summary:
    """Walk over a record file, by its headers alone or ``decoding`` every image.

    Raises UserError where the file is missing, empty, cut short or damaged, or a label is no whole number.
    """
    count, low, high = 0, math.inf, -math.inf
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        records = _decoding(walk(path), pool) if decoding else walk(path)
        for record in records:
            count += 1
            if not record.label.is_integer():
                raise UserError(f"{record.where}: the label {record.label} is no whole number")
            low, high = min(low, record.label), max(high, record.label)
    if not count:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    return Summary(count, low, high)


def _decoding(records: Iterator[Record], pool: ThreadPoolExecutor) -> Iterator[Record]:
    """The records, each decoded to see that it can be; some hundreds at a time, so that memory does not grow."""
    while chunk := list(islice(records, 256)):
        yield from pool.map(_decoded, chunk)


def _decoded(record: Record) -> Record:
    if decode(record.image) is None:
        raise UserError(f"{record.where}: the image does not decode")
    return record


def walk(path: Path) -> Iterator[Record]:
    """The records in the order of the file. Raises UserError as ``scan`` does."""
    parts: list[bytes] = []
    for number, offset, flag, data in _chunks(path):
        if flag in (WHOLE, FIRST_PART):
            parts, first, begin = [], number, offset
        parts.append(data)
        if flag in (WHOLE, LAST_PART):
            where = f"{path}, record {first}, byte {begin}"
            yield _record(SPLIT_AT.join(parts), begin, where)


def _record(data: bytes, offset: int, where: str) -> Record:
    if len(data) < IMAGE_HEADER.size:
        raise UserError(f"{where}: {len(data)} bytes are too short for an image record")
    labels, label, _, _ = IMAGE_HEADER.unpack_from(data)
    begin = IMAGE_HEADER.size + 4 * labels
    if labels > 1 or begin > len(data):
        raise UserError(f"{where}: the record has {labels} labels, and images here have one")
    if labels:
        (label,) = struct.unpack_from("<f", data, IMAGE_HEADER.size)
    return Record(label, offset, data[begin:], where)


def _chunks(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """The (number of the record, byte offset, continuation flag, data) of each piece of the file."""
    if not path.is_file():
        raise UserError(f"there is no record file {path}: make it, with tools/ or im2rec, or check --data-dir")
    if not path.stat().st_size:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset, number, flag = 0, -1, WHOLE
        while offset < len(data):
            before = flag
            where = f"{path}, record {number + (before in (WHOLE, LAST_PART))}, byte {offset}"
            if offset + RECORD_HEADER.size > len(data):
                raise UserError(f"{where}: the file ends inside of a record header")
            magic, word = RECORD_HEADER.unpack_from(data, offset)
            flag, length = word >> 29, word & ((1 << 29) - 1)
            start = offset + RECORD_HEADER.size
            if magic != MAGIC:
                raise UserError(f"{where}: {magic:#010x} stands where {MAGIC:#010x} should: the file is damaged")
            if flag not in FOLLOWING[before]:
                raise UserError(f"{where}: a piece of a record stands where it cannot: the file is damaged")
            if start + length > len(data):
                raise UserError(f"{where}: the record should have {length} bytes, and the file ends before")
            number += flag in (WHOLE, FIRST_PART)
            yield number, offset, flag, data[start : start + length]
            offset = start + (length + 3) // 4 * 4
        if flag not in (WHOLE, LAST_PART):
            raise UserError(f"{path}, record {number}: the file ends inside of the record")


def check_labels(path: Path, summary: Summary, num_classes: int) -> None:
    """Raise UserError unless all labels are classes of a net that has ``num_classes``."""
    if summary.min_label < 0 or summary.max_label >= num_classes:
        raise UserError(
            f"{path} has labels from {summary.min_label:g} to {summary.max_label:g}, and --num-classes {num_classes} "
            f"allows 0 to {num_classes - 1}"
        )
