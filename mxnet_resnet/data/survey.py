"""What a record file holds, damaged or not: the records, the damage between them, and what each image is."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from mxnet_resnet.data import recordio
from mxnet_resnet.data.decoding import ImageError, decode
from mxnet_resnet.data.imageheader import stored_shape
from mxnet_resnet.data.recordio import (
    FIRST_PART,
    IMAGE_HEADER,
    LARGEST_PIECE,
    LAST_PART,
    RECORD_HEADER,
    SPLIT_AT,
    WHOLE,
)


class Found(NamedTuple):
    """A record whose headers are right: its bytes from ``offset`` to ``end``, and what it holds."""

    number: int
    offset: int
    end: int
    data: bytes


class Damage(NamedTuple):
    """The bytes from ``offset`` to ``end`` that are no record; what is wrong lies at ``byte``."""

    number: int
    offset: int
    end: int
    byte: int
    reason: str


def survey(data: mmap.mmap, path: Path) -> Iterator[Found | Damage]:
    """The records of a file, and the damage between them: after it comes the next magic word that begins a record.

    A record is damaged too where its length leads over the next header, or ends before its image. A stretch of damage
    counts as one record.
    """
    number = offset = 0
    if len(data) > LARGEST_PIECE and data.find(SPLIT_AT, 0, LARGEST_PIECE) < 0:  # of any size: it is not searched
        offset = len(data)
        yield Damage(
            0, 0, offset, 0, f"no record begins in the first {LARGEST_PIECE >> 20} MiB: this is no record file"
        )
    while offset < len(data):
        item = _record_or_damage(data, path, number, offset)
        yield item
        if item.end > len(data):
            yield Damage(number, item.end, item.end, offset, "the file ends inside of the padding to 4 bytes")
        number, offset = number + 1, item.end


def _record_or_damage(data: mmap.mmap, path: Path, number: int, offset: int) -> Found | Damage:
    parts: list[bytes] = []
    start, end = offset + 1, offset
    try:
        for _, byte, flag, start, length in recordio.pieces(data, path, offset, number):
            end = start + (length + 3) // 4 * 4
            inner = _magic_word(data, start, end)
            if inner >= 0:
                reason = f"its length of {length} bytes leads over the header at byte {inner}: the file is damaged"
                return Damage(number, offset, _next_record(data, inner), byte, reason)
            parts.append(data[start : start + length])
            if flag in (WHOLE, LAST_PART):
                break
    except recordio.RecordError as error:
        return Damage(number, offset, _next_record(data, start), end, error.reason)
    found = Found(number, offset, end, SPLIT_AT.join(parts))
    if end >= len(data) or data[end : end + 4] == SPLIT_AT:
        return found
    following = _next_record(data, start)
    header_behind = following - end >= RECORD_HEADER.size and _end_of_piece(data, end) == following
    if not header_behind and (problem := examine(found).problem):
        return Damage(number, offset, following, offset, f"{problem}, and bytes that belong to no record follow it")
    return found


def _magic_word(data: mmap.mmap, start: int, end: int) -> int:
    """Where from ``start`` to ``end`` an aligned magic word stands, which data never have, or -1."""
    at = data.find(SPLIT_AT, start, end)
    while at >= 0 and (at - start) % 4:
        at = data.find(SPLIT_AT, at + 1, end)
    return at


def _next_record(data: mmap.mmap, at: int) -> int:
    """Where a record begins from ``at`` on: at an aligned magic word, or one that its length confirms; else the end."""
    while (at := data.find(SPLIT_AT, at)) >= 0:
        if at + RECORD_HEADER.size <= len(data):
            flag, end = RECORD_HEADER.unpack_from(data, at)[1] >> 29, _end_of_piece(data, at)
            confirmed = at % 4 == 0 or end == len(data) or data[end : end + 4] == SPLIT_AT
            if confirmed and flag in (WHOLE, FIRST_PART):
                return at
        at += 1
    return len(data)


def _end_of_piece(data: mmap.mmap, at: int) -> int:
    """Where the header at ``at`` says that its piece ends."""
    length = RECORD_HEADER.unpack_from(data, at)[1] & LARGEST_PIECE
    return at + RECORD_HEADER.size + (length + 3) // 4 * 4


class Examined(NamedTuple):
    """A record's image and label, or the ``problem`` with them."""

    problem: str = ""
    label: int = 0
    key: int = 0
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    channels: int = 3
    sums: Sequence[Sequence[int]] = ()  # of R, G and B, and of their squares


def examine(item: Found | Damage) -> Examined:
    """Decode the image of a record and sum up its pixels."""
    if isinstance(item, Damage):
        return Examined(item.reason)
    try:
        record = recordio.as_record(item.data, item.offset, "")
    except recordio.RecordError as error:
        return Examined(error.reason)
    if not record.label.is_integer() or record.label < 0:
        return Examined(f"the label {record.label} is no whole number from 0 on")
    try:
        image = decode(record.image)
    except ImageError as error:
        return Examined(f"the image {error}")
    _, _, channels = stored_shape(record.image)
    pixels = image.size // 3
    mean, deviation = (values.ravel().tolist() for values in cv2.meanStdDev(image))
    sums = [round(m * pixels) for m in mean]  # double precision: rounding gives the exact integers back
    squares = [round((m * m + d * d) * pixels) for m, d in zip(mean, deviation)]
    key, digest = IMAGE_HEADER.unpack_from(item.data)[2], hashlib.blake2b(record.image, digest_size=16).digest()
    return Examined("", int(record.label), key, digest, (image.shape[1], image.shape[0]), channels, (sums, squares))
