"""Images in a tar, or in the tars of classes inside of one: found once, read in any order.

Nothing is unpacked to disk: an index tells where in the outer file each image lies, also inside of an inner tar.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import read_at, replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.decoding import ImageError
from mxnet_resnet.data.tarwalk import open_tar, walk_members

INDEX_VERSION = 1
LONGEST_NAME = 100  # names are kept in an array as wide as the longest
CLASS_TAR = re.compile(r"(n\d{8})\.tar")


@dataclass(frozen=True)
class TarImages:
    """Images of a tar: a row of ``table`` tells label, first byte in the file, size and name (bytes) of each.

    ``classes`` are the WordNet ids of the labels, sorted; none where the tar does not tell.
    """

    tar: Path
    classes: list[str]
    table: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def shuffled(self, seed: int) -> TarImages:
        return replace(self, table=self.table[np.random.RandomState(seed).permutation(len(self))])

    def labelled(self, labels: np.ndarray, classes: list[str]) -> TarImages:
        """The same images with these labels, those with a negative one left out."""
        table = self.table.copy()
        table["label"] = labels
        return TarImages(self.tar, classes, table[labels >= 0])

    def counts(self) -> np.ndarray:
        """The number of images of each class."""
        return np.bincount(self.table["label"], minlength=len(self.classes))

    def name(self, number: int) -> str:
        return self.table["name"][number].decode(errors="replace")

    def read(self, file: BinaryIO, number: int) -> bytes:
        """The encoded image; threads may share the open tar. Raises ImageError where it is too large for one."""
        offset, size = int(self.table["offset"][number]), int(self.table["size"][number])
        if size > sources.LARGEST_IMAGE:
            raise ImageError(f"does not decode: it has {size:,} bytes, more than an image")
        try:
            data = read_at(file, size, offset)
        except OSError as error:
            raise UserError(f"cannot read {self.tar}: {error.strerror}") from error
        if len(data) < size:
            raise UserError(f"{self.tar}, byte {offset}: the file ends inside of {self.name(number)}")
        return data


def find_images(tar: Path, out: Path, in_classes: bool) -> TarImages:
    """The images of a tar in the order of their names, labelled -1; or of a tar of tars n########.tar, by their ranks.

    The index is kept in ``out``, for as long as size and time of the tar stay. Raises UserError for what is no such
    tar, is cut short or has a class twice.
    """
    cache = out / f".{tar.name}.index.npz"
    try:
        with sources.open_file(tar, "") as file:
            state = os.fstat(file.fileno())
            key = f"{INDEX_VERSION} {in_classes} {state.st_size} {state.st_mtime_ns}"
            if kept := _read_index(cache, tar, key):
                return kept
            images = (_walk_classes if in_classes else _walk_images)(file, tar)
    except OSError as error:
        raise UserError(f"cannot read {tar}: {error.strerror or error}") from error
    if not len(images):
        raise UserError(f"{tar} holds no images")
    with replacing(cache) as (path,):
        np.savez_compressed(path, key=key, classes=np.array(images.classes, "U9"), table=images.table)
    return images


def _read_index(cache: Path, tar: Path, key: str) -> TarImages | None:
    """What ``find_images`` kept, unless it is of another tar or damaged."""
    with suppress(Exception), np.load(cache) as kept:  # NumPy raises many kinds; what is damaged is made again
        if str(kept["key"]) == key:
            return TarImages(tar, kept["classes"].tolist(), kept["table"])
    return None


def _walk_classes(file: BinaryIO, tar: Path) -> TarImages:
    with open_tar(file, tar) as opened:
        inner: dict[str, tarfile.TarInfo] = {}
        for member in walk_members(opened, tar, 0, os.fstat(file.fileno()).st_size):
            named = CLASS_TAR.fullmatch(os.path.basename(member.name))
            if not named or named[1] in inner:
                wrong = "the second tar of its class" if named else "no tar of a class (n########.tar)"
                raise UserError(f"{tar}, byte {member.offset}: {member.name!r} is {wrong}")
            inner[named[1]] = member
        classes = sorted(inner)
        found = []
        for label, wordnet_id in enumerate(progress(classes, f"index of {tar.name}", len(classes), unit="classes")):
            begin, size = inner[wordnet_id].offset_data, inner[wordnet_id].size
            members = walk_members(opened, f"{tar}, {wordnet_id}.tar", begin, begin + size) if size else ()
            found.append(_table(members, label, f"{wordnet_id}/"))
    return TarImages(tar, classes, np.concatenate(found)) if found else TarImages(tar, [], _table((), -1, ""))


def _walk_images(file: BinaryIO, tar: Path) -> TarImages:
    with open_tar(file, tar) as opened:
        members = walk_members(opened, tar, 0, os.fstat(file.fileno()).st_size)
        table = _table(progress(members, f"index of {tar.name}"), -1, "")
    return TarImages(tar, [], table[np.argsort(table["name"], kind="stable")])


def _table(members: Iterable[tarfile.TarInfo], label: int, folder: str) -> np.ndarray:
    rows = [(label, file.offset_data, file.size, _listed(folder + os.path.basename(file.name))) for file in members]
    width = max((len(row[-1]) for row in rows), default=1)
    return np.array(rows, [("label", np.int32), ("offset", np.int64), ("size", np.int64), ("name", f"S{width}")])


def _listed(name: str) -> bytes:
    """A name that a list can hold: on one line, without tabs, in UTF-8."""
    return "".join(sign if sign.isprintable() else "?" for sign in name).encode()[:LONGEST_NAME]
