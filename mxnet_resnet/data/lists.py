"""Lists of images: shuffled and split, and as ``.lst`` files.

A line of a ``.lst`` file is ``INDEX<tab>LABEL<tab>PATH``, as MXNet's im2rec writes and reads it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.textfiles import read_text

LARGEST_KEY_LENGTH = 19  # digits: records hold the index as a uint64
LARGEST_LABEL = float(np.finfo(np.float32).max)


class ListLine(NamedTuple):
    """A line of a list; ``path`` is relative to the folder of the images."""

    key: int
    label: float
    path: str


class Skipped(NamedTuple):
    """An image that is left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class Division:
    """How the images of a folder are dealt to lists.

    Attributes:
        chunks: lists (or sets of lists) of the same size and the same share of each class.
        train, test: shares of each class in the lists for these; the rest is for validation.
        seed: of the order and the split, or None to keep the images sorted by path.
    """

    chunks: int = 1
    train: Fraction = Fraction(1)
    test: Fraction = Fraction(0)
    seed: int | None = 0


def take(lines: Sequence[ListLine], ratio: Fraction, least: int = 0) -> tuple[list[ListLine], list[ListLine]]:
    """``ratio`` of the lines, the first of each label, and the rest, both in order.

    The share of each label is exact to one image, and the whole to half a one, but for ``least`` of each label.
    """
    quota = {}
    carry = Fraction(1, 2)
    for label, count in sorted(Counter(line.label for line in lines).items()):
        exact = count * ratio + carry
        quota[label] = max(int(exact), least)
        carry = max(exact - quota[label], Fraction(0))
    taken: list[ListLine] = []
    rest: list[ListLine] = []
    for line in lines:
        (taken if quota[line.label] > 0 else rest).append(line)
        quota[line.label] -= 1
    return taken, rest


def split(lines: Sequence[ListLine], train: Fraction, test: Fraction) -> dict[str, list[ListLine]]:
    """The lines by the ending of their list, as MXNet's im2rec names them; every class has a training image."""
    if train == 1:
        return {"": list(lines)}
    training, rest = take(lines, train, least=1 if train else 0)
    testing, validation = take(rest, test / (1 - train))
    parts = {"_test": testing if test else None, "_val": validation if train + test < 1 else None, "_train": training}
    return {name: part for name, part in parts.items() if part is not None}


def chunks(lines: Sequence[ListLine], number: int) -> list[list[ListLine]]:
    """The lines in ``number`` parts of the same size, which have the same share of each label."""
    parts = []
    for left in range(number, 0, -1):
        part, lines = take(lines, Fraction(1, left))
        parts.append(part)
    return parts


def divide(prefix: Path, lines: Sequence[ListLine], division: Division) -> dict[Path, list[ListLine]]:
    """The lists that the lines make, by their paths, which begin with ``prefix``. Raises UserError for an empty one."""
    shuffled = list(lines)
    if division.seed is not None:
        random.Random(division.seed).shuffle(shuffled)
    lists = {}
    for place, chunk in enumerate(chunks(shuffled, min(division.chunks, len(lines) + 1))):  # one is empty then
        name = prefix.name if division.chunks == 1 else f"{prefix.name}_{place}"
        for ending, part in split(chunk, division.train, division.test).items():
            lists[prefix.with_name(f"{name}{ending}.lst")] = part
    for path, part in lists.items():
        if not part:
            raise UserError(f"there are too few images: none is left for {path}")
    return lists


def count_classes(lines: Sequence[ListLine]) -> int:
    """The number of different labels."""
    return len({line.label for line in lines})


def find_lists(prefix: Path) -> list[Path]:
    """The lists of ``PREFIX*.lst``, or of a folder."""
    folder, start = (prefix, "") if prefix.is_dir() else (prefix.parent, prefix.name)
    paths = sorted(folder.glob("*.lst"))
    return [path for path in paths if path.name.startswith(start) and not path.name.startswith(".")]


def write_lists(lists: Mapping[Path, Sequence[ListLine]], synset: Path, classes: Sequence[str]) -> None:
    """Write lists, and the names of the classes to ``synset``."""
    with replacing(synset, *lists) as (names, *files):
        names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8", errors="replace")
        for file, lines in zip(files, lists.values()):
            texts = (f"{line.key}\t{line.label:f}\t{line.path}\n" for line in lines)
            file.write_text("".join(texts), encoding="utf-8")


def read_list(path: Path) -> list[ListLine]:
    """The lines of a list; of several labels, the first. Raises UserError with file and line."""
    lines = []
    for line in read_lines(path):
        if isinstance(line, UserError):
            raise line
        lines.append(line)
    return lines


def note_further_labels(path: Path) -> list[str]:
    """A sentence on the lines of a list that have more than one label, or none."""
    several = sum(text.count("\t") > 2 for text in read_text(path, "the list").split("\n"))
    lines = f"{several:,} lines have" if several > 1 else "1 line has"
    return [f"{path}: {lines} more than one label, and the first one counts"] if several else []


def read_lines(path: Path) -> Iterator[ListLine | UserError]:
    """As `read_list`, with an error in the place of each line that is wrong. Raises UserError where none is right."""
    texts = read_text(path, "the list").split("\n")
    seen: set[int] = set()
    for number, text in enumerate(texts, 1):
        if text.strip():
            try:
                line = _parse(text, where := f"{path}, line {number}")
                if line.key in seen:
                    raise UserError(f"{where}: the index {line.key} stands on an earlier line already")
            except UserError as error:
                yield error
                continue
            seen.add(line.key)
            yield line
    if not seen:
        raise UserError(f"{path} lists no images")


def _parse(text: str, where: str) -> ListLine:
    columns = [column.strip() for column in text.split("\t")]
    if len(columns) < 3:
        raise UserError(f"{where}: {text.strip()[:80]!r} is not an index, a label and a path with tabs between them")
    key, label, path = columns[0], columns[1], columns[-1]
    if not key.isdecimal() or len(key) > LARGEST_KEY_LENGTH:
        raise UserError(f"{where}: the index {key[:80]!r} is not a whole number from 0 on")
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST_LABEL:
        raise UserError(f"{where}: the label {label[:80]!r} is not a number")
    return ListLine(int(key), value, path)
