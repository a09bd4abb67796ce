"""Record files checked: damage gone around, the index, every image, labels and their order, sizes, colours, copies."""

from __future__ import annotations

import hashlib
import math
import mmap
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.imageheader import DENSEST_IMAGE, LARGEST_IMAGE, chunks_fit, stored_shape
from mxnet_resnet.data.recordio import FIRST_PART, IMAGE_HEADER, LAST_PART, RECORD_HEADER, SPLIT_AT, WHOLE
from mxnet_resnet.data.transform import decode

LISTED = 1000  # findings that are kept of a file; more are counted
PROGRESS_BAR = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}  # None: on a terminal only


class Finding(NamedTuple):
    """Something wrong: in which file, in which record (or line of an index), at which byte of the record file."""

    file: str
    record: int | None
    byte: int | None
    message: str
    line: int | None = None

    def __str__(self) -> str:
        places = (("line", self.line), ("record", self.record), ("byte", self.byte))
        return f"{self.file}{''.join(f', {name} {at}' for name, at in places if at is not None)}: {self.message}"


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
    except UserError as error:
        reason = str(error)[len(str(path)) :].partition(": ")[2]  # what follows the place
        return Damage(number, offset, _next_record(data, start), end, reason)
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
    length = RECORD_HEADER.unpack_from(data, at)[1] & recordio.LARGEST_PIECE
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
    except UserError as error:
        return Examined(str(error).removeprefix(": "))
    if not record.label.is_integer() or record.label < 0:
        return Examined(f"the label {record.label} is no whole number from 0 on")
    width, height, channels = stored_shape(record.image)
    if width * height > min(LARGEST_IMAGE, DENSEST_IMAGE * len(record.image)):
        return Examined(f"the image, of {len(record.image)} bytes, cannot have {width}x{height} pixels")
    image = decode(record.image) if chunks_fit(record.image) else None
    if image is None:
        return Examined(f"the image, of {len(record.image)} bytes, does not decode")
    pixels = image.size // 3
    mean, deviation = (values.ravel().tolist() for values in cv2.meanStdDev(image))
    sums = [round(m * pixels) for m in mean]  # double precision: rounding gives the exact integers back
    squares = [round((m * m + d * d) * pixels) for m, d in zip(mean, deviation)]
    key, digest = IMAGE_HEADER.unpack_from(item.data)[2], hashlib.blake2b(record.image, digest_size=16).digest()
    return Examined("", int(record.label), key, digest, image.shape[1::-1], channels, (sums, squares))


@dataclass
class Order:
    """The labels in the order of the records, and whether that order looks random.

    The statistic is the number of changes of label from a record to the next. With n records, n_i of them of class i,
    a random order has n - S2 / n changes on average, with the variance (S2 (S2 + n (n + 1)) - 2 n S3 - n^3) /
    (n^2 (n - 1)), where S2 and S3 are the sums of the squares and cubes of n_i (the runs test of Wald and Wolfowitz for
    many classes). A file counts as unshuffled if it has less than 0.8 of them, and by more than 5 standard deviations
    less: the first lets small peculiarities of large files pass, the second the chance of small ones. Of some dozens
    of records, or of classes that have one record each, nothing can be told.
    """

    counts: Counter = field(default_factory=Counter)
    records: int = 0
    changes: int = 0
    longest: tuple[int, int] = (0, 0)  # records of the longest run, and minus the number of its first one
    _last: int | None = None
    _begin: int = 0

    def add(self, label: int) -> None:
        if label != self._last:
            self.changes += self._last is not None
            self._last, self._begin = label, self.records
        self.counts[label] += 1
        self.records += 1
        self.longest = max(self.longest, (self.records - self._begin, -self._begin))

    def expected(self) -> tuple[float, float]:
        """Mean and standard deviation of the changes in a random order."""
        n = self.records
        squares, cubes = (sum(count**power for count in self.counts.values()) for power in (2, 3))
        variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / max(1, n * n * (n - 1))
        return n - squares / max(1, n), math.sqrt(variance)

    def unshuffled(self) -> bool:
        mean, deviation = self.expected()
        return self.changes < min(0.8 * mean, mean - 5 * deviation)


@dataclass
class Report:
    """What ``check`` found in a file. Of the good records, numbers, offsets, keys and digests are kept, in order."""

    path: Path
    records: int = 0
    wrong: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: list[tuple[int, int]] = field(default_factory=list)  # stretches without good records, from byte to byte
    numbers: array = field(default_factory=lambda: array("q"))
    offsets: array = field(default_factory=lambda: array("q"))
    keys: array = field(default_factory=lambda: array("Q"))
    digests: bytearray = field(default_factory=bytearray)
    order: Order = field(default_factory=Order)
    sizes: Counter = field(default_factory=Counter)  # of (width, height)
    channels: Counter = field(default_factory=Counter)  # that the images are stored with
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3), object))  # of values and their squares, exact

    def add_finding(self, *arguments: object) -> None:
        self.wrong += 1
        if len(self.findings) < LISTED:
            self.findings.append(Finding(*arguments))

    def add_bad(self, item: Found | Damage, byte: int, reason: str) -> None:
        begin = self.bad.pop()[0] if self.bad and self.bad[-1][1] == item.offset else item.offset
        self.bad.append((begin, item.end))
        self.add_finding(str(self.path), item.number, byte, reason)

    def add_good(self, item: Found, image: Examined) -> None:
        self.numbers.append(item.number)
        self.offsets.append(item.offset)
        self.keys.append(image.key)
        self.digests += image.digest
        self.order.add(image.label)
        self.sizes[image.size] += 1
        self.channels[image.channels] += 1
        self.sums += np.array(image.sums, object)

    def colours(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of R, G and B over all pixels, in 0..255."""
        pixels = sum(width * height * count for (width, height), count in self.sizes.items())
        deviation = [math.sqrt(pixels * squared - total * total) / pixels for total, squared in self.sums.T]
        return [total / pixels for total in self.sums[0]], deviation


def check(path: Path) -> Report:
    """Check all that a record file holds. Raises UserError where the file cannot be read."""
    report = Report(path)
    if path.is_file() and not path.stat().st_size:
        report.add_finding(str(path), 0, 0, "the file is empty")
        return report
    try:
        with recordio.mapped(path) as data, tqdm(total=len(data), desc=path.name, **PROGRESS_BAR) as bar:
            for item, image in compute_ahead(examine, survey(data, path), cores()):
                report.records = item.number + 1
                if image.problem:
                    report.add_bad(item, item.byte if isinstance(item, Damage) else item.offset, image.problem)
                else:
                    report.add_good(item, image)
                bar.update(item.end - bar.n)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return report
