"""The .idx beside a record file compared with its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.data.check import Finding, Report, find_repeats


def check_index(report: Report) -> None:
    """Compare the .idx beside a record file with its records; what is damaged there is not told again."""
    path = report.path.with_suffix(".idx")
    if not path.exists():
        report.notes.append(f"there is no {path.name} beside it")
        return
    lines, keys, offsets = _read_index(report, path)
    records, numbers = np.array(report.offsets, np.int64), np.array(report.numbers, np.int64)
    good = np.isin(offsets, records)
    spans = np.array([(-1, -1), *report.bad])
    bad = offsets < spans[np.searchsorted(spans[:, 0], offsets, side="right") - 1, 1]
    wrong = np.flatnonzero(~good & ~bad)
    findings = [
        Finding(str(path), None, int(offsets[i]), f"no record begins there (key {keys[i]})", int(lines[i]))
        for i in wrong
    ]
    _add_findings(report, findings, len(lines), f"it is the index of another file, or {report.path.name} was cut")
    if len(report.numbers) and 2 * len(wrong) <= len(lines):
        missing = np.flatnonzero(~np.isin(records, offsets))
        message = f"{path.name} has no entry for it"
        findings = [Finding(str(report.path), int(numbers[i]), int(records[i]), message) for i in missing]
        _add_findings(report, findings, len(records), "it is the index of another file, or was cut")
    _check_keys(report, path, lines[good], keys[good], offsets[good])


def _check_keys(report: Report, path: Path, lines: np.ndarray, keys: np.ndarray, offsets: np.ndarray) -> None:
    """Look for keys and records that stand twice in an index, and for keys that are another record's id."""
    places = np.searchsorted(np.array(report.offsets, np.int64), offsets)
    found = {}
    for i, before in find_repeats(offsets):
        found[i] = f"it leads to the record that line {lines[before]} leads to"
    for i, before in find_repeats(keys):
        found[i] = f"its key {keys[i]} stands in line {lines[before]} already"
    ids = np.array(report.keys, np.uint64)
    other = np.flatnonzero(ids[places] != keys.astype(np.uint64))
    if 2 * len(other) > len(keys) or find_repeats(ids):
        report.notes.append(f"{len(other):,} keys of {path.name} are not the ids in the records")
    else:
        found.update(
            (int(i), f"its key is {keys[i]}, and the record says {ids[places[i]]}") for i in other if i not in found
        )
    for i, message in sorted(found.items()):
        report.add_finding(Finding(str(path), report.numbers[places[i]], int(offsets[i]), message, int(lines[i])))


def _read_index(report: Report, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line, key and offset of each entry."""
    entries = []
    for line, text in enumerate(sources.read(path, "", sources.LARGEST_TEXT).splitlines(keepends=True), 1):
        fields = text.split()
        if len(fields) == 2 and all(field.isdigit() and len(field) <= 18 for field in fields):
            entries.append((line, int(fields[0]), int(fields[1])))
        elif fields:
            report.add_finding(Finding(str(path), None, None, f"{text[:40]!r} is no key and offset", line))
    lines, keys, offsets = np.array(entries, np.int64).reshape(-1, 3).T
    return lines, keys, offsets


def _add_findings(report: Report, findings: Sequence[Finding], total: int, together: str) -> None:
    """Report each of the findings, or where they are most of ``total``, the first with what is wrong with all."""
    if len(findings) > 1 and 2 * len(findings) > total:
        findings = [
            findings[0]._replace(message=f"{findings[0].message}, and so on {len(findings):,} times: {together}")
        ]
    for finding in findings:
        report.add_finding(finding)
