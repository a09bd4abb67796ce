"""Make records from images in folders, or from .lst files, with the flags of MXNet's im2rec.

    python tools/im2rec.py data/flowers photos --train-ratio 0.9 --resize 256 --quality 90

lists the subfolders of photos/ as classes and writes data/flowers_train.rec and data/flowers_val.rec (with .idx and
.lst each) and the names of the classes. With --list it writes the lists alone. Where there are data/flowers*.lst, they
are what records are made of. Files that are no images go to data/flowers_bad.txt. The same command again goes on with
an interrupted job.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import random
from fractions import Fraction
from pathlib import Path

import cv2

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.arguments import Parser, integer, number
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.lists import (
    Encoder,
    Entry,
    Skipped,
    chunks,
    list_folder,
    read_list,
    split,
    write_lists,
)
from mxnet_resnet.data.writer import RecordWriter

QUALITIES = {".jpg": range(1, 101), ".png": range(10)}


class NothingReadable(Exception):
    """Of no image of a list can a record be made."""


class Journal:
    """What a job has left out so far, in a file that outlives it when it is interrupted."""

    def __init__(self, path: Path, settings: str):
        self.path, self.settings = path, settings
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        lines = lines[1:] if lines[:1] == [settings] else []
        self.finished = lines[-1:] == ["finished"]
        columns = [line.split("\t") for line in lines if "\t" in line]
        self.skipped = {int(key): Skipped(path, reason) for key, path, reason in columns}

    def keep(self, keys: set[int]) -> None:
        """Begin, with what is known of ``keys`` from before."""
        self.finished = False
        self.skipped = {key: skipped for key, skipped in self.skipped.items() if key in keys}
        self._write()

    def add(self, key: int, skipped: Skipped) -> None:
        self.skipped[key] = skipped
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(key, skipped))
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error

    def finish(self) -> None:
        self.finished = True
        self._write()

    def _write(self) -> None:
        with replacing(self.path) as (file,):
            lines = [f"{self.settings}\n", *(_line(*item) for item in self.skipped.items())]
            file.write_text("".join(lines) + "finished\n" * self.finished, encoding="utf-8")


def _line(key: int, skipped: Skipped) -> str:
    path = skipped.path.encode(errors="backslashreplace").decode()
    path = path.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"{key}\t{path}\t{skipped.reason}\n"


def find_lists(prefix: Path) -> list[Path]:
    """The lists of ``PREFIX*.lst``, or of a folder."""
    folder, start = (prefix, "") if prefix.is_dir() else (prefix.parent, prefix.name)
    paths = sorted(folder.glob("*.lst"))
    return [path for path in paths if path.name.startswith(start) and not path.name.startswith(".")]


def make_lists(arguments: argparse.Namespace, recursive: bool, journal: Journal) -> list[Path]:
    """List the folder, shuffle, split and write; what is no image goes to ``journal``."""
    prefix = arguments.prefix
    if prefix.is_dir():
        raise UserError(f"{prefix} is a folder without lists: give the beginning of their names too")
    extensions = {f".{extension.lower().lstrip('.')}" for extension in arguments.exts}
    entries, classes, skipped = list_folder(arguments.root, extensions, recursive)
    if not arguments.no_shuffle:
        random.Random(arguments.seed).shuffle(entries)
    lists = {}
    for place, chunk in enumerate(chunks(entries, arguments.chunks)):
        name = prefix.name if arguments.chunks == 1 else f"{prefix.name}_{place}"
        for ending, part in split(chunk, arguments.train_ratio, arguments.test_ratio).items():
            lists[prefix.with_name(f"{name}{ending}.lst")] = part
    for path, part in lists.items():
        if not part:
            raise UserError(f"there are too few images: none is left for {path}")
    journal.skipped = dict(enumerate(skipped))
    journal.finish()
    write_lists(lists, prefix.with_name(f"{prefix.name}_synset.txt"), classes)
    for path, part in lists.items():
        print(f"{path}: {len(part):,} images of {_classes(part):,} classes")
    return sorted(lists)


def _classes(entries: list[Entry]) -> int:
    return len({entry.label for entry in entries})


def write_records(path: Path, root: Path, encoder: Encoder, workers: int) -> Journal:
    """Make the records of a list, or what is left to do of them."""
    prefix = path.with_suffix("")
    entries = read_list(path)
    settings = hashlib.sha256(path.read_bytes() + repr((root.resolve(), encoder)).encode()).hexdigest()
    journal = Journal(prefix.with_name(f".{prefix.name}.bad.part"), settings)
    record, index = (prefix.with_name(f"{prefix.name}{ending}") for ending in (".rec", ".idx"))
    if not (journal.finished and record.is_file() and index.is_file()):
        _convert(prefix, entries, root, encoder, workers, journal)
    written = [entry for entry in entries if entry.key not in journal.skipped]
    print(f"{record}: {len(written):,} records of {_classes(written):,} classes, {len(journal.skipped):,} skipped")
    return journal


def _convert(prefix: Path, entries: list[Entry], root: Path, encoder: Encoder, workers: int, journal: Journal) -> None:
    def read(entry: Entry) -> bytes | str:
        return encoder.read(root / entry.path)

    try:
        with RecordWriter(prefix, {"job": journal.settings}, listing=False) as writer:  # the list is given, and stays
            done = 1 + [entry.key for entry in entries].index(writer.last_key) if writer.count else 0
            journal.keep({entry.key for entry in entries[:done]})
            images = compute_ahead(read, entries[done:], workers)
            for entry, image in progress(images, prefix.name, len(entries), done):
                if isinstance(image, bytes):
                    writer.write(entry.key, entry.label, image, entry.path)
                else:
                    journal.add(entry.key, Skipped(entry.path, image))
            if not writer.count:
                raise NothingReadable
    except NothingReadable:
        for part in prefix.parent.glob(f".{glob.escape(prefix.name)}.*.part"):
            part.unlink()
    journal.finish()


def write_report(path: Path, journals: list[Journal]) -> None:
    """All that was left out, one a line, in ``path``; where nothing was, there is no such file."""
    lines = [_line(*item).partition("\t")[2] for journal in journals for item in journal.skipped.items()]
    if lines:
        with replacing(path) as (file,):
            file.write_text("".join(lines), encoding="utf-8")
        print(f"{len(lines):,} skipped: {path} has the reasons")
    else:
        path.unlink(missing_ok=True)
    for journal in journals:
        journal.path.unlink(missing_ok=True)


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("prefix", type=Path, help="beginning of the names of lists and records")
    parser.add_argument("root", type=Path, help="folder of the images")
    lists = parser.add_argument_group("lists")
    lists.add_argument("--list", action="store_true", help="write lists only")
    lists.add_argument("--exts", nargs="+", default=[".jpeg", ".jpg", ".png"], help="endings of image files")
    lists.add_argument("--chunks", type=integer(), default=1, help="number of lists to divide the images among")
    lists.add_argument("--train-ratio", type=number(0, 1), default=1.0, help="share of each class in PREFIX_train")
    lists.add_argument("--test-ratio", type=number(0, 1), default=0.0, help="share of each class in PREFIX_test")
    lists.add_argument(
        "--recursive", action="store_true", help="subfolders are classes (without --list they are anyway)"
    )
    lists.add_argument("--no-shuffle", action="store_true", help="keep the images sorted by path")
    lists.add_argument("--seed", type=integer(0), default=0, help="of the order and the split")
    images = parser.add_argument_group("records")
    images.add_argument("--pass-through", action="store_true", help="keep the bytes of the image files")
    images.add_argument(
        "--resize", type=integer(0, 32767), default=0, help="pixels of the short side; 0 keeps the size"
    )
    images.add_argument("--center-crop", action="store_true", help="cut images to squares, before the resize")
    images.add_argument("--quality", type=integer(0, 100), help="of JPEG, 1-100 (95), or compression of PNG, 0-9 (9)")
    images.add_argument("--encoding", choices=QUALITIES, default=".jpg", help="of the images in the records")
    images.add_argument("--num-workers", "--num-thread", type=integer(1, 1024), default=cores(), help="threads")
    images.add_argument("--color", type=int, choices=[1], default=1, help="records are for ImageRecordIter: 3 channels")
    return _checked(parser.parse_args())


def _checked(arguments: argparse.Namespace) -> argparse.Namespace:
    allowed = QUALITIES[arguments.encoding]
    if arguments.quality is None:
        arguments.quality = min(95, allowed[-1])
    if arguments.quality not in allowed:
        raise UserError(f"--quality {arguments.quality} is not from {allowed[0]} to {allowed[-1]}, as of a "
                        f"{arguments.encoding} image")  # fmt: skip
    arguments.train_ratio, arguments.test_ratio = (
        Fraction(str(ratio)) for ratio in (arguments.train_ratio, arguments.test_ratio)
    )
    if arguments.train_ratio + arguments.test_ratio > 1:
        raise UserError("--train-ratio and --test-ratio together are more than 1")
    if not arguments.root.is_dir():
        raise UserError(f"there is no folder {arguments.root}")
    return arguments


def main() -> None:
    arguments = parse()
    cv2.setLogLevel(0)  # what does not decode is in the report
    prefix = arguments.prefix
    report = prefix.with_name(f"{prefix.name}_bad.txt")
    listing = Journal(report.with_name(f".{report.name}.part"), "listing")
    if arguments.list:
        make_lists(arguments, arguments.recursive, listing)
        write_report(report, [listing])
        return
    lists = find_lists(prefix)
    if lists:
        print(f"Lists found: {', '.join(path.name for path in lists)}")
    else:
        lists = make_lists(arguments, True, listing)
    options = (getattr(arguments, name) for name in ("resize", "quality", "encoding", "center_crop", "pass_through"))
    encoder = Encoder(*options)
    journals = [write_records(path, arguments.root, encoder, arguments.num_workers) for path in lists]
    write_report(report, [listing, *journals])
    for path, journal in zip(lists, journals):
        if len(journal.skipped) == len(read_list(path)):
            raise UserError(f"no image of {path} can be read: {report} has the reasons")
