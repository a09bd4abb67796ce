"""The good records of a damaged file, written anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_writable
from mxnet_resnet.data.check import Report, find_repeats
from mxnet_resnet.data.recordio import RecordFile
from mxnet_resnet.data.writer import RecordWriter


def repair(report: Report, prefix: Path, seed: int) -> str:
    """Write the good records in their order, under the ids that they have, or numbered where an id stands twice.

    Where the order is not a random one, it is made so. Returns a sentence on what was done.
    """
    if not report.numbers:
        raise UserError(f"{report.path} has no good record to write to {prefix}.rec")
    numbered = bool(find_repeats(np.array(report.keys)))
    names = {} if numbered else _read_names(report.path.with_suffix(".lst"))
    records = RecordFile(report.path, report.offsets)
    count, unshuffled = len(report.numbers), report.order.unshuffled()
    order = np.random.default_rng(seed).permutation(count).tolist() if unshuffled else range(count)
    with RecordWriter(prefix) as writer:
        for place, i in enumerate(order):
            number, key = report.numbers[i], place if numbered else report.keys[i]
            record = records.read(i)
            writer.write(key, record.label, record.image, names.get(str(key), f"{report.path.stem}-{number}"))
    return f"{prefix}.rec: {count:,} good records of {report.records:,}{', shuffled' if unshuffled else ''}"


def _read_names(path: Path) -> dict[str, str]:
    """The file names that a .lst has for its keys; none where there is no list."""
    if not path.exists():
        return {}
    text = sources.read(path, "the list", sources.LARGEST_TEXT).decode(errors="replace")
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0].strip(): row[-1] for row in rows if len(row) > 2}


def find_free_prefix(source: Path, out: Path) -> Path:
    """The prefix of the records ``out``. Raises UserError where these cannot be written, or only over ``source``."""
    prefix = out.with_suffix("") if out.suffix == ".rec" else out
    for suffix in (".rec", ".idx", ".lst"):
        target = prefix.with_name(f"{prefix.name}{suffix}")
        for own in (source, source.with_suffix(suffix)):
            if target.exists() and own.exists() and target.samefile(own):
                raise UserError(f"--repair would write over {own}: give another name")
        check_writable(target)
    return prefix
