"""The names of classes, a line each in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.textfiles import read_text

SYNSET = "_synset.txt"  # what the names of records end in
MOST_NAMED = 10


def number_class(label: int) -> str:
    """What to call a class without a name."""
    return f"class {label}"


def read_names(path: str | Path) -> list[str]:
    """The names in a file, in the order of the classes. Raises UserError."""
    return [line.strip() for line in read_text(Path(path), "class names from").split("\n") if line.strip()]


def read_class_names(path: str | Path, num_classes: int) -> list[str]:
    """As `read_names`; raises UserError unless there are ``num_classes``."""
    names = read_names(path)
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, and the net has {num_classes}")
    return names


def number_folders(names: Sequence[str], path: Path) -> dict[str, int]:
    """The labels of folders that are called as the ``names`` of a file, or as the WordNet ids that these begin with.

    Raises UserError where two names are the same.
    """
    labels: dict[str, int] = {}
    for label, name in enumerate(names):
        wordnet = re.match(r"(n\d{8})\s", name)
        for folder in {name, wordnet[1] if wordnet else name}:
            if labels.setdefault(folder, label) != label:
                raise UserError(f"{path} names the class {folder} twice")
    return labels


def find_names(records: Path) -> Path | None:
    """The names of classes that tools/im2rec.py wrote with records; None where there are none."""
    stems = (records.stem, records.stem.rpartition("_")[0])
    paths = [records.with_name(f"{stem}{SYNSET}") for stem in stems if stem]
    return next((path for path in paths if path.is_file()), None)


def name_some(names: Sequence[object], total: int | None = None) -> str:
    """The first of some names, and how many of ``total`` there are more."""
    rest = (total or len(names)) - MOST_NAMED
    more = f" and {rest:,} more" if rest > 0 else ""
    return ", ".join(map(str, names[:MOST_NAMED])) + more
