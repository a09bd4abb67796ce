"""Write the records of ImageNet-11k from the tar of all of ImageNet (fall11_whole.tar), without unpacking it.

Classes with few images are left out, and of each other some random images are held out for validation.
train_480_q90.rec, train_256_q90.rec and val_256_q90.rec, each with .idx and .lst, hold JPEGs of quality 90 with a short
side of so many pixels, shuffled. Labels are the ranks of the sorted WordNet ids, the lines of synset.txt. After an
interrupt the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_writable, replacing
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.datasets import DATA_TYPES
from mxnet_resnet.data.imagenet import VAL_SIZE, choose_held_out, drop_small_classes
from mxnet_resnet.data.tarrecords import write_records
from mxnet_resnet.data.tars import TarImages, find_images
from mxnet_resnet.settings import recordflags

PUBLISHED_CLASSES = DATA_TYPES["imagenet11k"].num_classes
PUBLISHED_MILLIONS = 12.4


def print_counts(images: TarImages, found: TarImages) -> None:
    """Print the counts next to the published ones."""
    classes, millions = len(images.classes), round(len(images) / 1e6, 1)
    print(f"{found.tar}: {len(found):,} images of {len(found.classes):,} classes")
    print(f"kept: {classes:,} classes (published: {PUBLISHED_CLASSES:,}), {len(images):,} images", end=" ")
    print(f"(published: {PUBLISHED_MILLIONS} million)")
    if (classes, millions) != (PUBLISHED_CLASSES, PUBLISHED_MILLIONS):
        print("note: these are not the published counts: another tar, or another --min-images")


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--tar", type=Path, required=True, help="fall11_whole.tar")
    parser.add_argument("--out", type=Path, default=Path("data/imagenet11k"), help="folder for the records")
    parser.add_argument("--min-images", type=integer(), default=500, help="images that a class must have to be kept")
    parser.add_argument(
        "--val-per-class", type=integer(), default=50, help="random images of a class that are held out"
    )
    recordflags.add(parser)
    arguments = parser.parse_args()
    if arguments.val_per_class >= arguments.min_images:
        raise UserError(
            f"--val-per-class {arguments.val_per_class} would leave a class of {arguments.min_images} images "
            "(--min-images) without any for training"
        )
    return arguments


def main() -> None:
    arguments = parse()
    imagebounds.allow(arguments.max_pixels)
    check_writable(arguments.out / "synset.txt")  # before hours go into what could not be written
    found = find_images(arguments.tar, arguments.out, in_classes=True)
    images = drop_small_classes(found, arguments.min_images)
    print_counts(images, found)
    chosen = choose_held_out(images, arguments.val_per_class, arguments.seed)
    for name, part, sizes in (("train", ~chosen, arguments.sizes), ("val", chosen, [VAL_SIZE])):
        labelled = images.labelled(np.where(part, images.table["label"], -1), images.classes)
        shuffled = labelled.shuffled(arguments.seed)
        write_records(shuffled, arguments.out / name, sizes, arguments.quality, arguments.num_workers)
    with replacing(arguments.out / "synset.txt") as (path,):
        path.write_text("".join(f"{wordnet_id}\n" for wordnet_id in images.classes))
