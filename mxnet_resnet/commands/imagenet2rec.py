"""Write the records of ImageNet (ILSVRC 2012) from its tars, without unpacking them.

train_480_q90.rec, train_256_q90.rec and val_256_q90.rec, each with .idx and .lst, hold JPEGs of quality 90 with a short
side of so many pixels, shuffled. Labels are the ranks of the sorted WordNet ids, as in predict/synset.txt. After an
interrupt the same command goes on. What --val-labels can hold, a line an image:
  FILE LABEL    in any order, the label a rank from 0 on or a WordNet id (Caffe's val.txt)
  WNID          a WordNet id, for the images in the order of their names
  1..1000       the development kit's own numbers, in that order too; --devkit tells what they mean
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np

from mxnet_resnet.base.arguments import Parser
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.datasets import IMAGENET_SYNSET
from mxnet_resnet.data.tars import VAL_SIZE, Images, add_record_flags, find_images, prepare, write_records

PUBLISHED = {"train": 1281167, "val": 50000}
META, GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


def read_devkit(path: Path) -> tuple[dict[str, str], list[list[str]]]:
    """The WordNet id of each number of the development kit, and the lines of its ground truth."""
    try:
        with tarfile.open(path) as devkit:
            files = {
                wanted: devkit.extractfile(member).read()
                for member in devkit
                for wanted in (META, GROUND_TRUTH)
                if member.isfile() and member.name.endswith(wanted)
            }
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or "it is no tar, or cut short"
        raise UserError(f"cannot read the development kit {path}: {reason}") from error
    for wanted in (META, GROUND_TRUTH):
        if wanted not in files:
            raise UserError(f"{path} is not the development kit of ILSVRC 2012 (task 1 and 2): it has no {wanted}")
    return read_meta(files[META], path), [[label] for label in files[GROUND_TRUTH].decode(errors="replace").split()]


def read_meta(data: bytes, path: Path) -> dict[str, str]:
    """The WordNet id of each number in ``meta.mat``."""
    from scipy.io import loadmat

    try:
        synsets = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in synsets}
    except Exception as error:  # loadmat raises whatever its parsing meets
        raise UserError(f"{META} of {path} does not tell the ILSVRC2012_ID and WNID of synsets") from error


def read_val_labels(path: Path) -> list[list[str]]:
    """The words of each line of a ground-truth list: a label, or a file and its label."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"cannot read the labels {path}: {reason}") from error
    for number, words in enumerate(lines, 1):
        if len(words) != len(lines[0]) or len(words) > 2:
            raise UserError(f"{path}, line {number}: neither a label nor a file and its label, as line 1 would have it")
    return lines


def wordnet_ids(arguments: argparse.Namespace, val: Images, known: list[str]) -> list[str]:
    """The WordNet id of each validation image."""
    where = arguments.val_labels or arguments.devkit
    numbers, lines = read_devkit(arguments.devkit) if arguments.devkit else ({}, [])
    if arguments.val_labels:
        lines = read_val_labels(arguments.val_labels)
    if len(lines) != len(val):
        raise UserError(f"{where} has {len(lines):,} labels, and {val.tar} {len(val):,} images")
    if len(lines[0]) == 2:
        lines = by_name(dict(lines), val, where)
        numbers = {str(rank): wordnet_id for rank, wordnet_id in enumerate(known)}
    meaning = {number: wordnet_id for number, wordnet_id in numbers.items() if wordnet_id in known}
    meaning.update(zip(known, known))
    for (label,) in lines:
        if label not in meaning:
            hint = ": --devkit tells what numbers mean" if label.isdecimal() and not numbers else ""
            raise UserError(f"{where}: the label {label!r} is of no class{hint}")
    return [meaning[label] for (label,) in lines]


def by_name(labels: dict[str, str], val: Images, where: Path) -> list[list[str]]:
    """The labels of files as lines in the order of the images."""
    labels = {Path(file).name: label for file, label in labels.items()}
    names = [val.name(number) for number in range(len(val))]
    for name in names:
        if name not in labels:
            raise UserError(f"{where} has no label of {name}, which is in {val.tar}")
    return [[labels[name]] for name in names]


def label_validation(arguments: argparse.Namespace, classes: list[str], known: list[str]) -> Images:
    """The validation images with the ranks of their classes; those of classes that are not in training left out."""
    val = find_images(arguments.val, arguments.out, in_classes=False)
    ranks = {wordnet_id: rank for rank, wordnet_id in enumerate(classes)}
    ids = wordnet_ids(arguments, val, known)
    kept = val.labelled(np.array([ranks.get(wordnet_id, -1) for wordnet_id in ids], np.int32), classes)
    if len(kept) < len(val):
        print(f"val: {len(val) - len(kept):,} images are of classes that {arguments.train} has not: left out")
    return kept


def check_classes(train: Images, known: list[str], allow_partial: bool) -> None:
    """Raise UserError unless the training images are of the 1000 classes, or of some of them where that is allowed."""
    strange = sorted(set(train.classes) - set(known))
    if strange:
        raise UserError(f"{train.tar}: {strange[0]} is none of the {len(known)} classes of ILSVRC 2012")
    empty = np.flatnonzero(train.counts() == 0)
    if len(empty):
        raise UserError(f"{train.tar}: the class {train.classes[empty[0]]} has no images")
    if len(train.classes) < len(known) and not allow_partial:
        lacking = min(set(known) - set(train.classes))
        raise UserError(
            f"{train.tar} has {len(train.classes)} of {len(known)} classes, {lacking} is missing: "
            "--allow-partial labels them from 0 on without the others"
        )


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, help="ILSVRC2012_img_train.tar")
    parser.add_argument("--val", type=Path, help="ILSVRC2012_img_val.tar")
    parser.add_argument("--devkit", type=Path, help="ILSVRC2012_devkit_t12.tar.gz")
    parser.add_argument("--val-labels", type=Path, help="list of validation labels, in place of the devkit's")
    parser.add_argument("--out", type=Path, default=Path("data/imagenet"), help="folder for the records")
    parser.add_argument("--only", choices=("train", "val"), help="write these records only")
    parser.add_argument("--allow-partial", action="store_true", help="take a training tar of fewer than 1000 classes")
    add_record_flags(parser)
    arguments = parser.parse_args()
    if not arguments.train and arguments.only != "val":
        raise UserError("--train is missing: give the training tar, or --only val")
    if not arguments.val and arguments.only != "train":
        raise UserError("--val is missing: give the validation tar, or --only train")
    if arguments.only != "train" and not (arguments.devkit or arguments.val_labels):
        raise UserError("the validation images have no labels: give --devkit or --val-labels")
    return arguments


def write(images: Images, name: str, sizes: list[int], arguments: argparse.Namespace) -> None:
    """Write the records of a part, and say how it differs from the published one."""
    if len(images) != PUBLISHED[name]:
        print(f"warning: {name} has {len(images):,} images, and ILSVRC 2012 {PUBLISHED[name]:,}", file=sys.stderr)
    write_records(images.shuffled(arguments.seed), arguments.out, name, sizes, arguments)


def main() -> None:
    arguments = parse()
    prepare(arguments.out)
    lines = {line.split()[0]: line for line in IMAGENET_SYNSET.read_text().splitlines()}
    classes = known = sorted(lines)
    if arguments.train:
        train = find_images(arguments.train, arguments.out, in_classes=True)
        check_classes(train, known, arguments.allow_partial)
        classes = train.classes
    if arguments.only != "train":  # before training, which takes hours
        val = label_validation(arguments, classes, known)
    if arguments.only != "val":
        write(train, "train", arguments.sizes, arguments)
    if arguments.only != "train":
        write(val, "val", [VAL_SIZE], arguments)
    with replacing(arguments.out / "synset.txt") as (path,):
        path.write_text("".join(f"{lines[wordnet_id]}\n" for wordnet_id in classes))
