"""Record files checked: damage gone around, every image, labels and their order, sizes, colours, copies."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.classnames import MOST_NAMED, name_some
from mxnet_resnet.data.survey import Damage, Examined, Found, examine, survey

LISTED = 1000  # findings that are kept of a file; more are counted
ALIKE = 5  # findings that differ in numbers alone and are told one by one
VARYING = re.compile(r"""b?'[^']*'|b?"[^"]*"|0x[0-9a-f]+|\d[\d,x]*""")  # of the words of a finding
# disable=None: a bar on a terminal only
PROGRESS_BAR: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}


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
    """What there is to tell of a file. Of the good records, numbers, offsets, keys and digests are kept, in order."""

    path: Path
    records: int = 0
    wrong: int = 0
    findings: list[Finding] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)  # of all findings, by what does not vary in their words
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

    def add_finding(self, finding: Finding) -> None:
        self.wrong += 1
        self.kinds[_find_kind(finding)] += 1
        if len(self.findings) < LISTED:
            self.findings.append(finding)

    def add_bad(self, item: Found | Damage, byte: int, reason: str) -> None:
        begin = self.bad.pop()[0] if self.bad and self.bad[-1][1] == item.offset else item.offset
        self.bad.append((begin, item.end))
        self.add_finding(Finding(str(self.path), item.number, byte, reason))

    def add_good(self, item: Found, image: Examined) -> None:
        self.numbers.append(item.number)
        self.offsets.append(item.offset)
        self.keys.append(image.key)
        self.digests += image.digest
        self.order.add(image.label)
        self.sizes[image.size] += 1
        self.channels[image.channels] += 1
        self.sums += np.array(image.sums, object)

    def describe_findings(self) -> list[str]:
        """Each finding that is kept, but of those that differ in numbers alone the first and how many there are."""
        told, counts = [], Counter[str]()
        for finding in self.findings:
            kind = _find_kind(finding)
            counts[kind] += 1
            if counts[kind] <= ALIKE:
                told.append(str(finding))
                last = counts[kind] == ALIKE and self.kinds[kind] - ALIKE
                told += [f"{finding.file}: {last:,} findings more like this one"] * bool(last)
        unkept = self.wrong - sum(self.kinds[kind] for kind in counts)
        return told + [f"{self.path}: {unkept:,} findings more"] * bool(unkept)

    def colours(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of R, G and B over all pixels, in 0..255."""
        pixels = sum(width * height * count for (width, height), count in self.sizes.items())
        deviation = [math.sqrt(pixels * squared - total * total) / pixels for total, squared in self.sums.T]
        return [total / pixels for total in self.sums[0]], deviation


def _find_kind(finding: Finding) -> str:
    return f"{finding.file} {VARYING.sub('', finding.message)}"


def check_file(path: Path) -> Report:
    """Check all that a record file holds, but for the .idx. Raises UserError where the file cannot be read."""
    report = Report(path)
    if path.is_file() and not path.stat().st_size:
        report.add_finding(Finding(str(path), 0, 0, "the file is empty"))
        return report
    try:
        with recordio.mapped(path) as data, tqdm(total=len(data), desc=path.name, **PROGRESS_BAR) as bar:
            for item, image in compute_ahead(examine, survey(data, path), cores()):
                report.records = item.number + 1
                if isinstance(item, Damage):
                    report.add_bad(item, item.byte, item.reason)
                elif image.problem:
                    report.add_bad(item, item.offset, image.problem)
                else:
                    report.add_good(item, image)
                bar.update(item.end - bar.n)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    _check_order(report)
    _note_labels(report)
    return report


def _note_labels(report: Report) -> None:
    """Note labels that no image has: those between the least and the greatest, and where they do not begin at 0."""
    counts = report.order.counts
    if not counts:
        return
    least = min(counts)
    if least:
        report.notes.append(f"the labels begin at {least}: a net's classes begin at 0")
    if missing := _count_missing(counts):  # labels can be as large as a float
        first = list(islice((label for label in count(least) if label not in counts), min(missing, MOST_NAMED)))
        report.notes.append(f"no image has the label {name_some(first, missing)}")


def _count_missing(counts: Counter) -> int:
    """The labels between the least and the greatest that no image has."""
    return max(counts) - min(counts) + 1 - len(counts)


def _check_order(report: Report) -> None:
    """Add a finding where the labels are not in a random order."""
    order = report.order
    if order.unshuffled():
        length, begin = order.longest[0], -order.longest[1]
        message = (
            f"the file is not shuffled: labels change {order.changes:,} times from record to record, in a random order "
            f"about {order.expected()[0]:,.0f} times; here begin {length:,} records of one label (for validation this "
            "does no harm)"
        )
        report.add_finding(Finding(str(report.path), report.numbers[begin], report.offsets[begin], message))


def find_repeats(values: np.ndarray) -> list[tuple[int, int]]:
    """The places of values that stand earlier too, each with the place before."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return sorted(zip(order[1:][same].tolist(), order[:-1][same].tolist()))


def find_copies(reports: list[Report]) -> list[str]:
    """Notes about images that are in a file twice, or in two files."""
    notes = []
    digests = [np.frombuffer(report.digests, "S16") for report in reports]
    for report, images in zip(reports, digests):
        if twice := find_repeats(images):
            i, before = (report.numbers[place] for place in twice[0])
            notes.append(f"{report.path}: {len(twice):,} images are copies (record {i} of record {before})")
    for (one, images), (other, others) in combinations(zip(reports, digests), 2):
        shared = np.flatnonzero(np.isin(others, images))
        if len(shared):
            i, before = other.numbers[shared[0]], one.numbers[np.flatnonzero(images == others[shared[0]])[0]]
            notes.append(
                f"{other.path}: {len(shared):,} images are in {one.path} too (record {i} is record {before} there)"
            )
    return notes


def summarize(report: Report) -> dict:
    """What there is to tell of a file, as JSON has it."""
    counts = report.order.counts
    findings = [finding._asdict() for finding in report.findings]
    told = {"file": str(report.path), "records": report.records, "good": len(report.numbers), "wrong": report.wrong}
    told.update(findings=findings, notes=report.notes)
    if not counts:
        return told
    mean, deviation = report.colours()
    expected, _ = report.order.expected()
    width, height = (np.repeat(side, list(report.sizes.values())) for side in np.array(list(report.sizes)).T)
    return {
        **told,
        "labels": {str(label): counts[label] for label in sorted(counts)},
        "missing_labels": _count_missing(counts),
        "order": {"changes": report.order.changes, "expected": expected, "unshuffled": report.order.unshuffled()},
        "width": _spread(width),
        "height": _spread(height),
        "channels": {str(channels): count for channels, count in sorted(report.channels.items())},
        "mean": mean,
        "deviation": deviation,
    }


def _spread(sizes: np.ndarray) -> dict[str, float]:
    return {"min": int(sizes.min()), "median": float(np.median(sizes)), "max": int(sizes.max())}
