"""Images in a tar, or in the tars of classes inside of one: found once, read in any order, written as records.

Nothing is unpacked to disk: an index tells where in the outer file each image lies, also inside of an inner tar.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.arguments import Parser, integer, integers
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.transform import LARGEST_SIDE, decode, sides_for
from mxnet_resnet.data.writer import RecordWriter

VAL_SIZE = 256
INDEX_VERSION = 1
LONGEST_NAME = 100  # names are kept in an array as wide as the longest
CLASS_TAR = re.compile(r"(n\d{8})\.tar")


@dataclass(frozen=True)
class Images:
    """Images of a tar: a row of ``table`` tells label, first byte in the file, size and name (bytes) of each.

    ``classes`` are the WordNet ids of the labels, sorted; none where the tar does not tell.
    """

    tar: Path
    classes: list[str]
    table: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def shuffled(self, seed: int) -> Images:
        return replace(self, table=self.table[np.random.RandomState(seed).permutation(len(self))])

    def labelled(self, labels: np.ndarray, classes: list[str]) -> Images:
        """The same images with these labels, those with a negative one left out."""
        table = self.table.copy()
        table["label"] = labels
        return Images(self.tar, classes, table[labels >= 0])

    def counts(self) -> np.ndarray:
        """The number of images of each class."""
        return np.bincount(self.table["label"], minlength=len(self.classes))

    def name(self, number: int) -> str:
        return self.table["name"][number].decode(errors="replace")

    def read(self, file: BinaryIO, number: int) -> bytes:
        """The encoded image; threads may share the open tar."""
        offset, size = int(self.table["offset"][number]), int(self.table["size"][number])
        try:
            data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise UserError(f"cannot read {self.tar}: {error.strerror}") from error
        if len(data) < size:
            raise UserError(f"{self.tar}, byte {offset}: the file ends inside of {self.name(number)}")
        return data


def find_images(tar: Path, out: Path, in_classes: bool) -> Images:
    """The images of a tar in the order of their names, labelled -1; or of a tar of tars n########.tar, by their ranks.

    The index is kept in ``out``, for as long as size and time of the tar stay. Raises UserError for what is no such
    tar, is cut short or has a class twice.
    """
    cache = out / f".{tar.name}.index.npz"
    try:
        with tar.open("rb") as file:
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


def _read_index(cache: Path, tar: Path, key: str) -> Images | None:
    """What ``find_images`` kept, unless it is of another tar or damaged."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error), np.load(cache) as kept:
        if str(kept["key"]) == key:
            return Images(tar, kept["classes"].tolist(), kept["table"])
    return None


def _walk_classes(file: BinaryIO, tar: Path) -> Images:
    with _opened(file, tar) as opened:
        inner: dict[str, tarfile.TarInfo] = {}
        for member in _members(opened, tar, 0, os.fstat(file.fileno()).st_size):
            named = CLASS_TAR.fullmatch(os.path.basename(member.name))
            if not named or named[1] in inner:
                wrong = "the second tar of its class" if named else "no tar of a class (n########.tar)"
                raise UserError(f"{tar}, byte {member.offset}: {member.name!r} is {wrong}")
            inner[named[1]] = member
        classes = sorted(inner)
        found = []
        for label, wordnet_id in enumerate(progress(classes, f"index of {tar.name}", len(classes), unit="classes")):
            begin, size = inner[wordnet_id].offset_data, inner[wordnet_id].size
            members = _members(opened, f"{tar}, {wordnet_id}.tar", begin, begin + size) if size else ()
            found.append(_table(members, label, f"{wordnet_id}/"))
    return Images(tar, classes, np.concatenate(found)) if found else Images(tar, [], _table((), -1, ""))


def _walk_images(file: BinaryIO, tar: Path) -> Images:
    with _opened(file, tar) as opened:
        members = _members(opened, tar, 0, os.fstat(file.fileno()).st_size)
        table = _table(progress(members, f"index of {tar.name}"), -1, "")
    return Images(tar, [], table[np.argsort(table["name"], kind="stable")])


def _opened(file: BinaryIO, tar: Path) -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=file)
    except (tarfile.TarError, ValueError) as error:
        raise UserError(f"{tar} is no tar, or a compressed one, which must be unpacked before ({error})") from error


def _members(opened: tarfile.TarFile, where: Path | str, begin: int, end: int) -> Iterator[tarfile.TarInfo]:
    """The files of the tar that lies between two bytes of the opened one.

    ``TarFile.next`` takes damage for the end of the tar. Here the end is the mark that says so.
    """
    position = begin
    while True:
        if position + tarfile.BLOCKSIZE > end:
            raise UserError(f"{where}, byte {position}: the tar ends without its end mark: it is cut short")
        opened.fileobj.seek(position)
        try:
            member = tarfile.TarInfo.fromtarfile(opened)
        except tarfile.EOFHeaderError:
            return
        except (tarfile.TarError, ValueError) as error:
            raise UserError(f"{where}, byte {position}: no header of a tar stands here ({error})") from error
        if not position < opened.offset <= end:
            raise UserError(f"{where}, byte {position}: the tar ends inside of {member.name}: it is cut short")
        if member.isreg():
            yield member
        position = opened.offset


def _table(members: Iterable[tarfile.TarInfo], label: int, folder: str) -> np.ndarray:
    rows = [(label, file.offset_data, file.size, _listed(folder + os.path.basename(file.name))) for file in members]
    width = max((len(row[-1]) for row in rows), default=1)
    return np.array(rows, [("label", np.int32), ("offset", np.int64), ("size", np.int64), ("name", f"S{width}")])


def _listed(name: str) -> bytes:
    """A name that a list can hold: on one line, without tabs, in UTF-8."""
    return "".join(sign if sign.isprintable() else "?" for sign in name).encode()[:LONGEST_NAME]


def version(image: np.ndarray, short: int, quality: int) -> bytes | None:
    """An RGB image as a JPEG with a short side of ``short`` pixels, enlarged if need be, as MXNet's im2rec does.

    None where it is so narrow that OpenCV refuses.
    """
    height, width = image.shape[:2]
    size = sides_for(height, width, short)
    if max(size) > LARGEST_SIDE:
        return None
    bgr = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_records(images: Images, out: Path, name: str, sizes: list[int], arguments: argparse.Namespace) -> None:
    """Write ``NAME_{size}_q{quality}.rec`` of each size, with .idx and .lst, going on with what an interrupt left.

    An image is read and decoded once for all sizes. What cannot be used is listed in ``.unreadable.txt``.
    """
    prefixes = {size: out / f"{name}_{size}_q{arguments.quality}" for size in sizes}
    settings = {"images": hashlib.sha256(images.table.tobytes()).hexdigest(), "quality": arguments.quality}
    missing = {size: prefix for size, prefix in prefixes.items() if not _is_made(prefix, settings)}
    with images.tar.open("rb") as file:
        with ExitStack() as stack:
            entered = {size: stack.enter_context(RecordWriter(prefix, settings)) for size, prefix in missing.items()}
            if entered:
                _fill(entered, images, file, name, arguments)
        for prefix in missing.values():
            note, text = _note(prefix, settings)
            with replacing(note) as (path,):
                path.write_text(text)
        for size, prefix in prefixes.items():
            _report(images, file, prefix, size)


def _fill(writers: dict[int, RecordWriter], images: Images, file: BinaryIO, name: str, arguments) -> None:
    lasts = {size: -1 if writer.last_key is None else writer.last_key for size, writer in writers.items()}
    start = min(lasts.values()) + 1
    cv2.setNumThreads(1)  # threads that have an image each use the cores better
    print(f"{name}: {len(images):,} images to {' and '.join(map(str, writers))} pixels, from number {start:,} on")
    make = partial(_versions, images, file, list(writers), arguments.quality)
    with closing(compute_ahead(make, range(start, len(images)), arguments.num_workers)) as results:
        for number, versions in progress(results, name, len(images), start):
            for size, writer in writers.items():
                if versions[size] is not None and number > lasts[size]:
                    writer.write(number, float(images.table["label"][number]), versions[size], images.name(number))


def _versions(images: Images, file: BinaryIO, sizes: list[int], quality: int, number: int) -> dict[int, bytes | None]:
    image = decode(images.read(file, number))
    return {size: None if image is None else version(image, size, quality) for size in sizes}


def _note(prefix: Path, settings: dict[str, object]) -> tuple[Path, str]:
    """The file that says that the records were finished, and what is in it if they were with these settings."""
    files = [prefix.with_name(prefix.name + suffix) for suffix in (".rec", ".idx", ".lst")]
    sizes = [file.stat().st_size if file.is_file() else None for file in files]
    return prefix.with_name(f".{prefix.name}.made.json"), json.dumps({**settings, "sizes": sizes})


def _is_made(prefix: Path, settings: dict[str, object]) -> bool:
    note, text = _note(prefix, settings)
    return note.is_file() and note.read_text() == text


def _report(images: Images, file: BinaryIO, prefix: Path, size: int) -> None:
    """Print how many records there are, and list the images that are not among them, with the reason."""
    left_out = np.ones(len(images), bool)
    with prefix.with_name(f"{prefix.name}.idx").open("rb") as index:
        for line in index:
            left_out[int(line.split(b"\t", 1)[0])] = False
    numbers = np.flatnonzero(left_out).tolist()
    report = prefix.with_name(f"{prefix.name}.unreadable.txt")
    undecoded = [decode(images.read(file, number)) is None for number in numbers]
    reasons = ["does not decode" if bad else f"is too narrow to be {size} pixels wide" for bad in undecoded]
    with replacing(report) as (path,):
        path.write_text("".join(f"{images.name(number)}\t{reason}\n" for number, reason in zip(numbers, reasons)))
    left = f", {len(numbers):,} left out: see {report}" if numbers else ""
    print(f"{prefix}.rec: {len(images) - len(numbers):,} images{left}")


def prepare(out: Path) -> None:
    """Make the folder, and see that it can be written before hours go into what could not be."""
    with replacing(out / ".writable") as (path,):
        path.touch()
    (out / ".writable").unlink()


def add_record_flags(parser: Parser) -> None:
    """The flags that both ImageNets share."""
    parser.add_argument("--sizes", type=_sizes, default="480,256", help="short sides of the training images")
    parser.add_argument("--quality", type=integer(1, 100), default=90, help="of the JPEGs")
    parser.add_argument("--num-workers", type=integer(1, 1024), default=cores(), help="threads that decode and encode")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the order of the records")


def _sizes(text: str) -> list[int]:
    sizes = integers(text)
    if not sizes or not all(1 <= size <= 4096 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes from 1 to 4096 such as 480,256")
    return sizes
