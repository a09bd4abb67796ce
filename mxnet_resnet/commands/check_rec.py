"""Check record files before training: `python tools/check_rec.py train.rec val.rec`.

Looks at the magic words, lengths, alignment and continuation flags, at the .idx beside the file, decodes every image,
and tells the labels, their order, the sizes, the channels and the colours. Each thing that is wrong has a line with the
file, the number of the record (from 0) and its byte; after damage it goes on with the next record. Copies of an image,
in a file or in two of the files, are a note.

Exit status: 0 when all is well, 1 when something is wrong, 2 when the command cannot be carried out. The labels of a
training file in order are wrong too: the classes have to be shuffled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.check import Finding, Report, check
from mxnet_resnet.data.recordio import RecordFile
from mxnet_resnet.data.transform import decode
from mxnet_resnet.data.writer import RecordWriter

ROWS = COLUMNS = 8
CELL, CAPTION = 128, 20  # pixels of the contact sheet


def repeats(values: np.ndarray) -> list[tuple[int, int]]:
    """The places of values that stand earlier too, each with the place before."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return sorted(zip(order[1:][same].tolist(), order[:-1][same].tolist()))


def add_findings(report: Report, findings: Sequence[Finding], total: int, together: str) -> None:
    """Report each of the findings, or where they are most of ``total``, the first with what is wrong with all."""
    if len(findings) > 1 and 2 * len(findings) > total:
        findings = [
            findings[0]._replace(message=f"{findings[0].message}, and so on {len(findings):,} times: {together}")
        ]
    for finding in findings:
        report.add_finding(*finding)


def read_index(report: Report, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line, key and offset of each entry."""
    entries = []
    try:
        with path.open("rb") as file:
            for line, text in enumerate(file, 1):
                fields = text.split()
                if len(fields) == 2 and all(field.isdigit() and len(field) <= 18 for field in fields):
                    entries.append((line, int(fields[0]), int(fields[1])))
                elif fields:
                    report.add_finding(str(path), None, None, f"{text[:40]!r} is no key and offset", line)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return tuple(np.array(entries, np.int64).reshape(-1, 3).T)


def check_index(report: Report) -> None:
    """Compare the .idx beside a record file with its records; what is damaged there is not told again."""
    path = report.path.with_suffix(".idx")
    if not path.is_file():
        report.notes.append(f"there is no {path.name} beside it")
        return
    lines, keys, offsets = read_index(report, path)
    records, numbers = np.array(report.offsets, np.int64), np.array(report.numbers, np.int64)
    good = np.isin(offsets, records)
    spans = np.array([(-1, -1), *report.bad])
    bad = offsets < spans[np.searchsorted(spans[:, 0], offsets, side="right") - 1, 1]
    wrong = np.flatnonzero(~good & ~bad)
    findings = [
        Finding(str(path), None, int(offsets[i]), f"no record begins there (key {keys[i]})", int(lines[i]))
        for i in wrong
    ]
    add_findings(report, findings, len(lines), f"it is the index of another file, or {report.path.name} was cut")
    if len(report.numbers) and 2 * len(wrong) <= len(lines):
        missing = np.flatnonzero(~np.isin(records, offsets))
        message = f"{path.name} has no entry for it"
        findings = [Finding(str(report.path), int(numbers[i]), int(records[i]), message) for i in missing]
        add_findings(report, findings, len(records), "it is the index of another file, or was cut")
    check_keys(report, path, lines[good], keys[good], offsets[good])


def check_keys(report: Report, path: Path, lines: np.ndarray, keys: np.ndarray, offsets: np.ndarray) -> None:
    """Look for keys and records that stand twice in an index, and for keys that are another record's id."""
    places = np.searchsorted(np.array(report.offsets, np.int64), offsets)
    found = {}
    for i, before in repeats(offsets):
        found[i] = f"it leads to the record that line {lines[before]} leads to"
    for i, before in repeats(keys):
        found[i] = f"its key {keys[i]} stands in line {lines[before]} already"
    ids = np.array(report.keys, np.uint64)
    other = np.flatnonzero(ids[places] != keys.astype(np.uint64))
    if 2 * len(other) > len(keys) or repeats(ids):
        report.notes.append(f"{len(other):,} keys of {path.name} are not the ids in the records")
    else:
        found.update(
            (int(i), f"its key is {keys[i]}, and the record says {ids[places[i]]}") for i in other if i not in found
        )
    for i, message in sorted(found.items()):
        report.add_finding(str(path), report.numbers[places[i]], int(offsets[i]), message, int(lines[i]))


def check_order(report: Report) -> None:
    order = report.order
    if order.unshuffled():
        length, begin = order.longest[0], -order.longest[1]
        message = (
            f"the file is not shuffled: labels change {order.changes:,} times from record to record, in a random order "
            f"about {order.expected()[0]:,.0f} times; here begin {length:,} records of one label (for validation this "
            "does no harm)"
        )
        report.add_finding(str(report.path), report.numbers[begin], report.offsets[begin], message)


def copies(reports: list[Report]) -> list[str]:
    """Notes about images that are in a file twice, or in two files."""
    notes = []
    digests = [np.frombuffer(report.digests, "S16") for report in reports]
    for report, images in zip(reports, digests):
        if twice := repeats(images):
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


def summary(report: Report) -> dict:
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
        "missing_labels": max(counts) + 1 - len(counts),
        "order": {"changes": report.order.changes, "expected": expected, "unshuffled": report.order.unshuffled()},
        "width": spread(width),
        "height": spread(height),
        "channels": {str(channels): count for channels, count in sorted(report.channels.items())},
        "mean": mean,
        "deviation": deviation,
    }


def spread(sizes: np.ndarray) -> dict[str, float]:
    return {"min": int(sizes.min()), "median": float(np.median(sizes)), "max": int(sizes.max())}


def lines(report: Report) -> list[str]:
    """The findings and the summary of a file for people."""
    told = summary(report)
    text = [*map(str, report.findings)]
    if report.wrong > len(report.findings):
        text.append(f"{report.path}: {report.wrong - len(report.findings):,} findings more")
    text.append(f"{report.path}: {told['records']:,} records, {told['good']:,} of them good")
    if "labels" in told:
        text += [f"  {line}" for line in statistics(told)]
    return text + [f"  note: {note}" for note in report.notes]


def statistics(told: dict) -> list[str]:
    labels = told["labels"]
    few, many = min(labels, key=labels.get), max(labels, key=labels.get)
    width, height = ([f"{told[side][name]:g}" for name in ("min", "median", "max")] for side in ("width", "height"))
    channels = ", ".join(f"{count:,} with {number}" for number, count in told["channels"].items())
    mean, deviation = (", ".join(f"{value:.2f}" for value in told[name]) for name in ("mean", "deviation"))
    lowest, *_, highest = *labels, *labels
    return [
        f"labels: {len(labels):,} from {lowest} to {highest}, {told['missing_labels']:,} missing between; "
        f"{labels[few]:,} (label {few}) to {labels[many]:,} (label {many}) images each",
        f"order: {told['order']['changes']:,} changes of label, {told['order']['expected']:,.0f} in a random order",
        f"size (least, median, most): width {', '.join(width)}; height {', '.join(height)}",
        f"stored channels: {channels}",
        f"RGB, 0..255: mean {mean}; standard deviation {deviation}",
    ]


def draw_sheet(reports: list[Report], out: Path, seed: int) -> None:
    """Draw some random images, each over its label and the number of its record (behind that of its file)."""
    sizes = [len(report.numbers) for report in reports]
    ends = np.cumsum(sizes)
    chosen = np.random.default_rng(seed).choice(ends[-1], min(ROWS * COLUMNS, ends[-1]), replace=False)
    sheet = np.full((-(-len(chosen) // COLUMNS) * (CELL + CAPTION), COLUMNS * CELL, 3), 255, np.uint8)
    for place, image in enumerate(sorted(chosen)):
        file = int(np.searchsorted(ends, image, side="right"))
        report, i = reports[file], int(image - ends[file] + sizes[file])
        record = RecordFile(report.path, report.offsets).read(i)
        top, left = place // COLUMNS * (CELL + CAPTION), place % COLUMNS * CELL
        draw_image(sheet[top : top + CELL, left : left + CELL], decode(record.image))
        text = f"{f'{file + 1}: ' if len(reports) > 1 else ''}{record.label:.0f} #{report.numbers[i]}"
        cv2.putText(sheet, text, (left + 4, top + CELL + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    with replacing(out) as (temporary,):
        temporary.write_bytes(cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes())


def draw_image(cell: np.ndarray, image: np.ndarray) -> None:
    """Draw an image at the bottom of a cell, as large as there is room with a margin of 2 pixels."""
    scale = (CELL - 4) / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    cell[CELL - 2 - height : CELL - 2, 2 : 2 + width] = cv2.resize(image, (width, height), interpolation=interpolation)


def repair(report: Report, prefix: Path) -> None:
    """Write the good records in their order, under the ids that they have, or numbered where an id stands twice."""
    if not report.numbers:
        raise UserError(f"{report.path} has no good record to write to {prefix}.rec")
    numbered = bool(repeats(np.array(report.keys)))
    names = {} if numbered else listed_names(report.path.with_suffix(".lst"))
    records = RecordFile(report.path, report.offsets)
    with RecordWriter(prefix) as writer:
        for i, number in enumerate(report.numbers):
            key = i if numbered else report.keys[i]
            record = records.read(i)
            writer.write(key, record.label, record.image, names.get(str(key), f"{report.path.stem}-{number}"))


def listed_names(path: Path) -> dict[str, str]:
    """The file names that a .lst has for its keys; none where there is no list."""
    if not path.is_file():
        return {}
    rows = (line.split("\t") for line in path.read_text(errors="replace").splitlines())
    return {row[0].strip(): row[-1] for row in rows if len(row) > 2}


def repaired_prefix(files: list[Path], out: Path) -> Path:
    """Where ``--repair`` writes. Raises UserError where that is no single, other file."""
    if len(files) > 1:
        raise UserError("--repair takes one file at a time")
    prefix = out.with_suffix("") if out.suffix == ".rec" else out
    for suffix in (".rec", ".idx", ".lst"):
        target = prefix.with_name(f"{prefix.name}{suffix}")
        for own in (files[0], files[0].with_suffix(suffix)):
            if target.exists() and own.exists() and target.samefile(own):
                raise UserError(f"--repair would write over {own}: give another name")
    return prefix


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .rec")
    sheet = "draw random images over their label and # the number of their record (1: or 2: is the file, of several)"
    parser.add_argument("--sheet", type=Path, metavar="PNG", help=sheet)
    parser.add_argument("--seed", type=integer(0), default=0, help="of the images of --sheet")
    parser.add_argument("--repair", type=Path, metavar="OUT", help="write OUT.rec, .idx and .lst without bad records")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    for path in arguments.files:
        if not path.is_file():
            raise UserError(f"there is no record file {path}")
    if arguments.sheet and arguments.sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {arguments.sheet}: the name has to end in .png")
    prefix = repaired_prefix(arguments.files, arguments.repair) if arguments.repair else None

    reports = []
    for path in arguments.files:
        reports.append(check(path))
        check_order(reports[-1])
        check_index(reports[-1])
        if not arguments.json:
            print(*lines(reports[-1]), sep="\n")
    notes = copies(reports)
    if arguments.json:
        print(json.dumps({"files": [summary(report) for report in reports], "notes": notes}, indent=2))
    elif notes:
        print(*(f"note: {note}" for note in notes), sep="\n")
    if arguments.sheet and any(report.numbers for report in reports):
        draw_sheet(reports, arguments.sheet, arguments.seed)
    if prefix:
        repair(reports[0], prefix)
    return int(any(report.wrong for report in reports))
