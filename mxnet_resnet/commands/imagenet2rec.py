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
import sys
from pathlib import Path

from mxnet_resnet.base import sources
from mxnet_resnet.base.arguments import Parser
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_writable, replacing
from mxnet_resnet.data import imagebounds, imagenet
from mxnet_resnet.data.datasets import IMAGENET_SYNSET
from mxnet_resnet.data.tarrecords import write_records
from mxnet_resnet.data.tars import TarImages, find_images
from mxnet_resnet.settings import recordflags


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, help="ILSVRC2012_img_train.tar")
    parser.add_argument("--val", type=Path, help="ILSVRC2012_img_val.tar")
    parser.add_argument("--devkit", type=Path, help="ILSVRC2012_devkit_t12.tar.gz")
    parser.add_argument("--val-labels", type=Path, help="list of validation labels, in place of the devkit's")
    parser.add_argument("--out", type=Path, default=Path("data/imagenet"), help="folder for the records")
    parser.add_argument("--only", choices=("train", "val"), help="write these records only")
    parser.add_argument("--allow-partial", action="store_true", help="take a training tar of fewer than 1000 classes")
    recordflags.add(parser)
    arguments = parser.parse_args()
    if not arguments.train and arguments.only != "val":
        raise UserError("--train is missing: give the training tar, or --only val")
    if not arguments.val and arguments.only != "train":
        raise UserError("--val is missing: give the validation tar, or --only train")
    if arguments.only != "train" and not (arguments.devkit or arguments.val_labels):
        raise UserError("the validation images have no labels: give --devkit or --val-labels")
    of_labels = {"the development kit": arguments.devkit, "the labels": arguments.val_labels}
    for what, path in [("", arguments.train), ("", arguments.val), *of_labels.items()]:  # before a tar is walked over
        if path:
            sources.check_readable(path, what)
    return arguments


def label_validation(arguments: argparse.Namespace, classes: list[str], known: list[str]) -> TarImages:
    """The labelled validation images; how many are of classes that are not in training is told."""
    val = find_images(arguments.val, arguments.out, in_classes=False)
    ids = imagenet.read_wordnet_ids(val, known, arguments.devkit, arguments.val_labels)
    kept = imagenet.label_validation(val, ids, classes)
    if len(kept) < len(val):
        print(f"val: {len(val) - len(kept):,} images are of classes that {arguments.train} has not: left out")
    return kept


def write(images: TarImages, name: str, sizes: list[int], arguments: argparse.Namespace) -> None:
    """Write the records of a part, and say how it differs from the published one."""
    published = imagenet.PUBLISHED[name]
    if len(images) != published:
        print(f"warning: {name} has {len(images):,} images, and ILSVRC 2012 {published:,}", file=sys.stderr)
    shuffled = images.shuffled(arguments.seed)
    write_records(shuffled, arguments.out / name, sizes, arguments.quality, arguments.num_workers)


def main() -> None:
    arguments = parse()
    imagebounds.allow(arguments.max_pixels)
    check_writable(arguments.out / "synset.txt")  # before hours go into what could not be written
    lines = {line.split()[0]: line for line in IMAGENET_SYNSET.read_text().splitlines()}
    classes = known = sorted(lines)
    if arguments.train:
        train = find_images(arguments.train, arguments.out, in_classes=True)
        imagenet.check_classes(train, known, arguments.allow_partial)
        classes = train.classes
    if arguments.only != "train":  # before training, which takes hours
        val = label_validation(arguments, classes, known)
    if arguments.only != "val":
        write(train, "train", arguments.sizes, arguments)
    if arguments.only != "train":
        write(val, "val", [imagenet.VAL_SIZE], arguments)
    with replacing(arguments.out / "synset.txt") as (path,):
        path.write_text("".join(f"{lines[wordnet_id]}\n" for wordnet_id in classes))
