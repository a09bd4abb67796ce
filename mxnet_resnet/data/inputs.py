"""What ``--img`` names: files, folders, globs, lists, records, or a list on standard input."""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import lists, recordio
from mxnet_resnet.data.folders import count_endings, describe_passed, walk_folders
from mxnet_resnet.data.imageheader import EXTENSIONS
from mxnet_resnet.data.survey import Damage, survey
from mxnet_resnet.data.transform import photograph, read_bytes

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """An image to be read, or what was named and is none.

    Attributes:
        name: its path, or ``FILE.rec[12]`` for the record number 12.
        data: gives the bytes of the encoded image. Raises UserError.
        label: its class, where a list or a record tells.
    """

    name: str
    data: Callable[[], bytes]
    label: int | None = None

    def read(self) -> np.ndarray:
        """The image as RGB (H, W, 3), uint8. Raises UserError, which has the name."""
        return photograph(self.data(), self.name)


def is_single(sources: Sequence[str]) -> bool:
    """Whether ``sources`` is the name of one image, and not of any number of them."""
    if len(sources) != 1 or sources[0] == STANDARD_INPUT or Path(sources[0]).suffix in (".lst", ".rec"):
        return False
    return os.path.isfile(sources[0]) or not (os.path.isdir(sources[0]) or glob.has_magic(sources[0]))


def find(sources: Sequence[str], root: Path | None = None) -> Iterator[Input]:
    """The images that ``sources`` name, in their order; those of a folder or a glob in the order of their paths.

    The paths in a list begin at ``root``, or else at the folder of the list, or at the current one.

    What is not there is an Input whose ``read`` raises, so that the rest is looked at; what of a folder or a list is
    passed over is counted on standard error.
    """
    for source in sources:
        try:
            yield from _find(source, root)
        except UserError as error:
            yield Input(source, partial(_fail, error))


def _find(source: str, root: Path | None) -> Iterator[Input]:
    if source == STANDARD_INPUT:
        yield from _in_lines(sys.stdin, root)
    elif os.path.isdir(source):
        yield from _in_folder(source)
    elif not os.path.exists(source) and glob.has_magic(source):
        found = sorted(_glob(source))
        if not found:
            raise UserError(f"nothing is called {source}")
        # ** finds folders and what is in them
        others = [path for path in found if path != source and not ("**" in source and os.path.isdir(path))]
        yield from find(others, root)
    elif source.endswith(".lst"):
        yield from _in_list(Path(source), root)
    elif source.endswith(".rec"):
        yield from _in_records(Path(source))
    else:
        yield Input(source, partial(read_bytes, source))


def _glob(pattern: str) -> Iterator[str]:
    """What fits a pattern, as glob has it; below a ``**`` folders are walked through as all others."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    above = os.sep.join(parts[:at]) + os.sep if at else ""
    passed: list[str] = []
    for root in glob.iglob(above) if above else [""]:
        for folder, folders, files in walk_folders(root or os.curdir, lambda error: None, passed):
            inner = os.path.relpath(folder, root or os.curdir)
            names = [] if inner == os.curdir else inner.split(os.sep)
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in (*folders, *files):
                if _fits([*names, name], parts[at:]):
                    yield os.path.join(root, *names, name)
    if passed:
        _note(describe_passed(passed))


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns or not names:
        return not names and all(pattern == "**" for pattern in patterns)
    hidden = names[0].startswith(".") and not patterns[0].startswith(".")
    if patterns[0] == "**":
        return _fits(names, patterns[1:]) or (not hidden and _fits(names[1:], patterns))
    return not hidden and fnmatch.fnmatch(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _in_lines(lines: TextIO, root: Path | None) -> Iterator[Input]:
    """What each line names; names may be any bytes."""
    if isinstance(lines, io.TextIOWrapper):
        lines.reconfigure(errors="surrogateescape")
    empty = True
    for line in lines:
        if line.strip():
            empty = False
            yield from find([line.rstrip("\r\n")], root)
    if empty:
        raise UserError("there is no name of an image on standard input")


def _in_folder(folder: str) -> Iterator[Input]:
    """The images in a folder and those below it; what of these folders cannot be read is an Input that raises."""
    paths: list[str] = []
    others, unread = Counter[str](), list[OSError]()
    passed: list[str] = []
    for inner, _, names in walk_folders(folder, unread.append, passed):
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if ending in EXTENSIONS:
                paths.append(os.path.join(inner, name))
            elif not name.startswith("."):
                others[ending] += 1
    if others:
        _note(f"{count_endings(others)} in {folder} passed over: not images, by the ending of the name")
    if passed:
        _note(describe_passed(passed))
    for error in unread:
        yield Input(str(error.filename), partial(_fail, UserError(f"cannot read {error.filename}: {error.strerror}")))
    if not paths and not unread:
        raise UserError(f"{folder} is a folder without images ({' '.join(sorted(EXTENSIONS))})")
    for path in sorted(paths):
        yield Input(path, partial(read_bytes, path))


def _in_records(path: Path) -> Iterator[Input]:
    """The records of a file; one that is damaged, or no image's, is an Input whose ``read`` raises."""
    with recordio.mapped(path) as data:
        for item in survey(data, path):
            if item.offset == item.end:  # what is wrong behind a record that was given
                continue
            name, where = f"{path}[{item.number}]", f"{path}, record {item.number}, byte {item.offset}"
            try:
                if isinstance(item, Damage):
                    raise recordio.RecordError(where, item.reason)
                record = recordio.as_record(item.data, item.offset, where)
            except recordio.RecordError as error:
                yield Input(name, partial(_fail, error))
            else:
                yield Input(name, partial(bytes, record.image), _label(record.label))


def _in_list(path: Path, root: Path | None) -> Iterator[Input]:
    """The images of a list, whose paths begin at ``root``, or else at its folder, or at the current one."""
    for note in lists.note_further_labels(path):
        _note(note)
    folders = [folder for folder in (root, path.parent, Path()) if folder is not None]
    elsewhere: list[Path] = []
    for entry in lists.read_lines(path):
        if isinstance(entry, UserError):
            yield Input(str(path), partial(_fail, entry))
            continue
        places = [folder / entry.path for folder in folders]
        image = next((place for place in places if os.path.exists(place)), places[0])
        if root is not None and image != places[0]:
            elsewhere.append(image)
        yield Input(str(image), partial(read_bytes, image), _label(entry.label))
    if elsewhere:
        _note(f"{path}: {len(elsewhere)} images are not in {root}; others were taken, such as {elsewhere[0]}")


def _label(label: float) -> int | None:
    return int(label) if label >= 0 and float(label).is_integer() else None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _fail(error: UserError) -> bytes:
    raise error
