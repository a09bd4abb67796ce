"""Make records from images in folders, or from .lst files, with the flags of MXNet's im2rec.

    python tools/im2rec.py data/flowers photos --train-ratio 0.9 --resize 256 --quality 90

lists the subfolders of photos/ as classes and writes data/flowers_train.rec and data/flowers_val.rec (with .idx and
.lst each) and the names of the classes. With --list it writes the lists alone. Where there are data/flowers*.lst, they
are what records are made of. Files that are no images go to data/flowers_bad.txt. The same command again goes on with
an interrupted job.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from mxnet_resnet.base.arguments import Parser, integer, number
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import locked
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.classnames import SYNSET, name_some, read_names
from mxnet_resnet.data.decoding import silence_opencv
from mxnet_resnet.data.encoder import Encoder
from mxnet_resnet.data.folders import list_folder
from mxnet_resnet.data.imageheader import EXTENSIONS
from mxnet_resnet.data.listrecords import SkippedFile, write_records, write_report
from mxnet_resnet.data.lists import Division, count_classes, divide, find_lists, note_further_labels, write_lists

QUALITIES = {".jpg": range(1, 101), ".png": range(10)}


def make_lists(arguments: argparse.Namespace, recursive: bool, skipped: SkippedFile) -> list[Path]:
    """List the folder, shuffle, split and write; what is no image goes to ``skipped``."""
    prefix = arguments.prefix
    if prefix.is_dir():
        raise UserError(f"{prefix} is a folder without lists: give the beginning of their names too")
    extensions = {f".{extension.lower().lstrip('.')}" for extension in arguments.exts}
    if extensions == {".all"}:
        extensions = {*EXTENSIONS}
    listing = list_folder(arguments.root, extensions, recursive, arguments.synset)
    seed = None if arguments.no_shuffle else arguments.seed
    lists = divide(prefix, listing.lines, Division(arguments.chunks, arguments.train_ratio, arguments.test_ratio, seed))
    skipped.finish(listing.skipped)
    write_lists(lists, name_synset(prefix), listing.classes)
    tell_notes(listing.notes)
    for path, lines in lists.items():
        print(f"{path}: {len(lines):,} images of {count_classes(lines):,} classes")
    return sorted(lists)


def make_records(arguments: argparse.Namespace, lists: list[Path], listing: SkippedFile, report: Path) -> None:
    """Make the records of lists, or what is left to do of them. Raises UserError where one list has no image."""
    names = ("resize", "quality", "encoding", "center_crop", "pass_through")
    encoder = Encoder(*(getattr(arguments, name) for name in names))
    jobs, unreadable = [listing], []
    for path in lists:
        tell_notes(note_further_labels(path))
        lines, job = write_records(path, arguments.root, encoder, arguments.num_workers)
        written = [line for line in lines if line.key not in job.skipped]
        counts = f"{len(written):,} records of {count_classes(written):,} classes, {len(job.skipped):,} skipped"
        print(f"{path.with_suffix('')}.rec: {counts}")
        jobs.append(job)
        if not written:
            unreadable.append(path)
        elif lost := sorted({line.label for line in lines} - {line.label for line in written}):
            tell_notes([f"{path}: no image with the label {name_some([f'{label:g}' for label in lost])} can be read"])
    tell_skipped(report, jobs)
    if unreadable:
        raise UserError(f"no image of {unreadable[0]} can be read: {report} has the reasons")


def name_synset(prefix: Path) -> Path:
    """The file of the names of the classes."""
    return prefix.with_name(f"{prefix.name}{SYNSET}")


def check_order(prefix: Path, synset: Path) -> None:
    """Raise UserError where lists that are there already were not made with the classes of ``synset``."""
    beside = name_synset(prefix)
    if not beside.is_file() or read_names(beside) != read_names(synset):
        raise UserError(
            f"the lists that begin with {prefix} were made with other classes than those of {synset}: remove them, or "
            "take another prefix"
        )


def tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def tell_skipped(report: Path, jobs: list[SkippedFile]) -> None:
    if left_out := write_report(report, jobs):
        print(f"{left_out:,} skipped: {report} has the reasons")


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("prefix", type=Path, help="beginning of the names of lists and records")
    parser.add_argument("root", type=Path, help="folder of the images")
    lists = parser.add_argument_group("lists")
    lists.add_argument("--list", action="store_true", help="write lists only")
    endings = f"endings of image files, or all: {' '.join(sorted(EXTENSIONS))}"
    lists.add_argument("--exts", nargs="+", default=[".jpeg", ".jpg", ".png"], help=endings)
    lists.add_argument("--synset", type=Path, help="names of the classes in the order of the labels, those of training")
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
    imagebounds.add_flag(images)
    images.add_argument("--color", type=int, choices=[1], default=1, help="records are for ImageRecordIter: 3 channels")
    if foreign := [word for word in sys.argv[1:] if re.fullmatch(r"[a-z_]+=\S+", word)]:
        name, _, value = foreign[0].partition("=")
        raise UserError(
            f"{foreign[0]} is a flag of MXNet's im2rec in C++: give the beginning of the names of list and records, "
            f"the folder of the images, and --{name.replace('_', '-')} {value}"
        )
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
    imagebounds.allow(arguments.max_pixels)
    silence_opencv()  # what does not decode is in the report
    prefix = arguments.prefix
    report = prefix.with_name(f"{prefix.name}_bad.txt")
    with locked(report.with_name(f".{report.name}.lock"), "these records are being made, wait until they are there"):
        make(arguments, report)


def make(arguments: argparse.Namespace, report: Path) -> None:
    """Make what is asked for: lists, or the records of lists, and the ``report`` of what is left out."""
    prefix = arguments.prefix
    listing = SkippedFile(report.with_name(f".{report.name}.part"), "listing")
    if arguments.list:
        make_lists(arguments, arguments.recursive, listing)
        tell_skipped(report, [listing])
        return
    lists = find_lists(prefix)
    if lists:
        if arguments.synset:
            check_order(prefix, arguments.synset)
        print(f"Lists found: {', '.join(path.name for path in lists)} (the folder is not listed again)")
    else:
        lists = make_lists(arguments, True, listing)
    make_records(arguments, lists, listing, report)
