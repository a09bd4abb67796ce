"""Lists of images: from folders, shuffled and split; as ``.lst`` files; and the images they name, as records hold them.

A line of a ``.lst`` file is ``INDEX<tab>LABEL<tab>PATH``, as MXNet's im2rec writes and reads it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.transform import LARGEST_SIDE, decode_bgr, sides_for

LARGEST_KEY_LENGTH = 19  # digits: records hold the index as a uint64
LARGEST_LABEL = float(np.finfo(np.float32).max)


class Entry(NamedTuple):
    """A line of a list; ``path`` is relative to the folder of the images."""

    key: int
    label: float
    path: str


class Skipped(NamedTuple):
    """An image that is left out."""

    path: str
    reason: str


class Listing(NamedTuple):
    """What a folder holds: images, the names of their classes in the order of the labels, and what is left out."""

    entries: list[Entry]
    classes: list[str]
    skipped: list[Skipped]


def list_folder(root: Path, extensions: Collection[str], recursive: bool) -> Listing:
    """The images of a folder with label 0, or, ``recursive``, each subfolder that has images as a class.

    Labels follow the sorted paths of the subfolders, as in MXNet's im2rec. Raises UserError where there is no image.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    entries: list[Entry] = []
    classes: list[str] = []
    skipped: list[Skipped] = []

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(os.path.relpath(error.filename, root), error.strerror))

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        before = len(entries)
        for name in sorted(filter(_with_extension(extensions), [*folders, *files])):
            path = os.path.normpath(os.path.join(os.path.relpath(folder, root), name))
            if reason := _unlistable(path, root):
                skipped.append(Skipped(path, reason))
            else:
                entries.append(Entry(len(entries), float(len(classes)), path))
        if len(entries) > before:
            name = os.path.relpath(folder, root)
            classes.append(root.resolve().name if name == os.curdir else name)
        folders[:] = sorted(name for name in folders if recursive and _worth_a_visit(folder, name, extensions))
    if not entries:
        hint = "" if recursive else ", and its subfolders are classes with --recursive only"
        raise UserError(f"{root} has no images ({' '.join(sorted(extensions))}){hint}")
    return Listing(entries, classes, skipped)


def _with_extension(extensions: Collection[str]) -> Callable[[str], bool]:
    return lambda name: os.path.splitext(name)[1].lower() in extensions


def _unlistable(path: str, root: Path) -> str:
    """Why ``path`` cannot stand in a list, or nothing."""
    if path != path.strip() or set(path) & set("\t\n\r"):
        return "a list cannot hold its name: white space"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "a list cannot hold its name: not UTF-8"
    return _not_a_file(root / path)


def _not_a_file(path: Path) -> str:
    """Why nothing can be read from ``path``, or nothing. A pipe would be waited for without end."""
    if os.path.isfile(path):  # where Path.is_file raises (a name too long), this is False
        return ""
    return "a folder" if os.path.isdir(path) else "not a file" if os.path.exists(path) else "no such file"


def _worth_a_visit(folder: str, name: str, extensions: Collection[str]) -> bool:
    """Whether a subfolder is to be walked: not where it has the name of an image, or a link leads back up."""
    if _with_extension(extensions)(name):
        return False
    path = Path(folder, name)
    if not path.is_symlink():
        return True
    here = Path(os.path.abspath(folder))
    return not any(above.resolve().is_relative_to(path.resolve()) for above in (here, *here.parents))


def take(entries: Sequence[Entry], ratio: Fraction, least: int = 0) -> tuple[list[Entry], list[Entry]]:
    """``ratio`` of the entries, the first of each label, and the rest, both in order.

    The share of each label is exact to one image, and the whole to half a one, but for ``least`` of each label.
    """
    quota = {}
    carry = Fraction(1, 2)
    for label, count in sorted(Counter(entry.label for entry in entries).items()):
        exact = count * ratio + carry
        quota[label] = max(int(exact), least)
        carry = max(exact - quota[label], Fraction(0))
    taken: list[Entry] = []
    rest: list[Entry] = []
    for entry in entries:
        (taken if quota[entry.label] > 0 else rest).append(entry)
        quota[entry.label] -= 1
    return taken, rest


def split(entries: Sequence[Entry], train: Fraction, test: Fraction) -> dict[str, list[Entry]]:
    """The entries by the ending of their list, as MXNet's im2rec names them; every class has a training image."""
    if train == 1:
        return {"": list(entries)}
    training, rest = take(entries, train, least=1 if train else 0)
    testing, validation = take(rest, test / (1 - train))
    parts = {"_test": testing if test else None, "_val": validation if train + test < 1 else None, "_train": training}
    return {name: part for name, part in parts.items() if part is not None}


def chunks(entries: Sequence[Entry], number: int) -> list[Sequence[Entry]]:
    """The entries in ``number`` parts of the same size, which have the same share of each label."""
    parts = []
    for left in range(number, 0, -1):
        part, entries = take(entries, Fraction(1, left))
        parts.append(part)
    return parts


def write_lists(lists: Mapping[Path, Sequence[Entry]], synset: Path, classes: Sequence[str]) -> None:
    """Write lists, and the names of the classes to ``synset``."""
    with replacing(synset, *lists) as (names, *files):
        names.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8", errors="replace")
        for file, entries in zip(files, lists.values()):
            lines = (f"{entry.key}\t{entry.label:f}\t{entry.path}\n" for entry in entries)
            file.write_text("".join(lines), encoding="utf-8")


def read_list(path: Path) -> list[Entry]:
    """The lines of a list; of several labels, the first. Raises UserError with file and line."""
    entries = []
    for entry in read_lines(path):
        if isinstance(entry, UserError):
            raise entry
        entries.append(entry)
    return entries


def read_lines(path: Path) -> Iterator[Entry | UserError]:
    """As `read_list`, with an error in the place of each line that is wrong. Raises UserError where none is right."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a list: byte {error.start} is not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    seen: set[int] = set()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entry = _entry(line, where := f"{path}, line {number}")
                if entry.key in seen:
                    raise UserError(f"{where}: the index {entry.key} stands on an earlier line already")
            except UserError as error:
                yield error
                continue
            seen.add(entry.key)
            yield entry
    if not seen:
        raise UserError(f"{path} lists no images")


def _entry(line: str, where: str) -> Entry:
    columns = [column.strip() for column in line.split("\t")]
    if len(columns) < 3:
        raise UserError(f"{where}: {line.strip()[:80]!r} is not an index, a label and a path with tabs between them")
    key, label, path = columns[0], columns[1], columns[-1]
    if not key.isdecimal() or len(key) > LARGEST_KEY_LENGTH:
        raise UserError(f"{where}: the index {key[:80]!r} is not a whole number from 0 on")
    try:
        value = float(label)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST_LABEL:
        raise UserError(f"{where}: the label {label[:80]!r} is not a number")
    return Entry(int(key), value, path)


@dataclass(frozen=True)
class Encoder:
    """Image files to the images of records.

    Attributes:
        resize: pixels of the short side, 0 to keep the size.
        quality: of JPEG, 1 to 100, or the compression of PNG, 0 to 9.
        encoding: ".jpg" or ".png".
        center_crop: cut the image to a square first.
        pass_through: keep the bytes of the file, if it decodes.
    """

    resize: int = 0
    quality: int = 95
    encoding: str = ".jpg"
    center_crop: bool = False
    pass_through: bool = False

    def read(self, path: Path) -> bytes | str:
        """The bytes for the record, or the reason why there are none."""
        if reason := _not_a_file(path):
            return reason
        try:
            data = path.read_bytes()
        except OSError as error:
            return error.strerror
        if not data:
            return "0 bytes"
        image = decode_bgr(data)
        if image is None:
            return "not an image that OpenCV can decode"
        return data if self.pass_through else self.encode(image)

    def encode(self, image: np.ndarray) -> bytes | str:
        """A BGR image (H, W, 3), uint8, encoded, or the reason why it is not."""
        height, width = image.shape[:2]
        short = min(height, width)
        if self.center_crop:
            top, left = (height - short) // 2, (width - short) // 2
            image = image[top : top + short, left : left + short]
            height = width = short
        if self.resize:
            size = sides_for(height, width, self.resize)
            if max(size) > LARGEST_SIDE:
                return f"{width}x{height} pixels are too narrow to be made {self.resize} pixels wide"
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        flag = cv2.IMWRITE_JPEG_QUALITY if self.encoding == ".jpg" else cv2.IMWRITE_PNG_COMPRESSION
        done, data = cv2.imencode(self.encoding, image, [flag, self.quality])
        return data.tobytes() if done else f"{width}x{height} pixels are too many for {self.encoding}"
