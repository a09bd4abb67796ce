"""RecordIO files of images, walked over without MXNet: counts, labels and damage."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mxnet_resnet.errors import UserError
from mxnet_resnet.preprocess import decode

# dmlc-core, include/dmlc/recordio.h: magic, then 3 bits of continuation flag and 29 of length, then the data to the
# next multiple of 4. MXNet puts an image header before the data: flag, label, two ids.
MAGIC = 0xCED7230A
RECORD_HEADER = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST_PART = 0, 1


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

    Raises UserError where the file is missing, empty, cut short or damaged.
    """
    count, low, high = 0, float("inf"), float("-inf")
    for record in walk(path):
        count += 1
        low, high = min(low, record.label), max(high, record.label)
        if decoding and decode(record.image) is None:
            raise UserError(f"{record.where}: the image does not decode")
    if not count:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    return Summary(count, low, high)


def walk(path: Path) -> Iterator[Record]:
    """The records in the order of the file. Raises UserError as ``scan`` does."""
    if not path.is_file():
        raise UserError(f"there is no record file {path}: make it, with tools/ or im2rec, or check --data-dir")
    if not path.stat().st_size:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset, number = 0, 0
        while offset < len(data):
            where = f"{path}, record {number}, byte {offset}"
            if offset + RECORD_HEADER.size > len(data):
                raise UserError(f"{where}: the file ends inside of a record header")
            magic, word = RECORD_HEADER.unpack_from(data, offset)
            flag, length = word >> 29, word & ((1 << 29) - 1)
            start = offset + RECORD_HEADER.size
            if magic != MAGIC:
                raise UserError(f"{where}: {magic:#010x} stands where {MAGIC:#010x} should: the file is damaged")
            if start + length > len(data):
                raise UserError(f"{where}: the record should have {length} bytes, and the file ends before")
            if flag in (WHOLE, FIRST_PART):
                if length < IMAGE_HEADER.size:
                    raise UserError(f"{where}: {length} bytes are too short for an image record")
                labels, label, _, _ = IMAGE_HEADER.unpack_from(data, start)
                if labels:
                    (label,) = struct.unpack_from("<f", data, start + IMAGE_HEADER.size)
                image = data[start + IMAGE_HEADER.size + 4 * labels : start + length]
                yield Record(label, offset, image, where)
                number += 1
            offset = start + (length + 3) // 4 * 4


def check_labels(path: Path, summary: Summary, num_classes: int) -> None:
    """Raise UserError unless all labels are classes of a net that has ``num_classes``."""
    if summary.min_label < 0 or summary.max_label >= num_classes:
        raise UserError(
            f"{path} has labels from {summary.min_label:g} to {summary.max_label:g}, and --num-classes {num_classes} "
            f"allows 0 to {num_classes - 1}"
        )
