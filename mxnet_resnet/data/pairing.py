"""Whether training and validation records go together: their classes, their names, the scale of their images."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.augment import Augmentation, find_enlargement
from mxnet_resnet.data.classnames import MOST_NAMED, find_names, name_some, read_names
from mxnet_resnet.data.imageheader import stored_shape
from mxnet_resnet.data.recordio import RecordFile, Summary
from mxnet_resnet.data.transform import ImageShape, short_side

LOOKED_AT = 256  # records of a file whose sizes are read
# Between the scales of training and validation that is told: 224 pixels of images of 224 or of 256 are near enough.
FAR_APART = 1.2
FEW = 0.1  # of the images that are looked at: so many may be of another scale


def compare_labels(train: Summary, val: Summary, classes: int) -> list[str]:
    """What is to be said of training that has not all ``classes`` of the net, and of validation that has not those of
    training.
    """
    notes = []
    if without := classes - len(train.labels):
        first = list(islice((label for label in range(classes) if label not in train.labels), MOST_NAMED))
        notes.append(
            f"Training has images of {len(train.labels):,} of the {classes:,} classes: none of "
            f"{name_some(first, without)}. Does --num-classes fit?"
        )
    if missing := sorted(train.labels - val.labels):
        have = "1 class has" if len(val.labels) == 1 else f"{len(val.labels):,} classes have"
        notes.append(
            f"{have} validation images, and {len(train.labels):,} training images: none of {name_some(missing)}. Were "
            "both numbered alike? (im2rec.py --synset)"
        )
    if strange := sorted(val.labels - train.labels):
        notes.append(f"Validation has images of classes that training has none of: {name_some(strange)}")
    return notes


def compare_names(train: Path, val: Path) -> list[str]:
    """What is to be said where the lists of classes beside two record files number a class differently."""
    paths = find_names(train), find_names(val)
    if paths[0] is None or paths[1] is None:
        return []
    try:
        one, other = (read_names(path) for path in paths if path)
    except UserError:  # of no use to training
        return []
    moved = [name for name in one if name in other and one.index(name) != other.index(name)]
    if not moved:
        return []
    first = moved[0]
    return [
        f"{first} is class {one.index(first)} in {paths[0]} and {other.index(first)} in {paths[1]}: make the "
        f"validation records again, with im2rec.py --synset {paths[0]}"
    ]


def compare_scales(path: Path, summary: Summary, image_shape: ImageShape, preset: Augmentation, pad: int) -> list[str]:
    """What is to be said where training shows its images at another scale than validation.

    Validation makes the short side of any image `transform.short_side`; training cuts crops out of images as they are
    stored, scaled by what ``preset`` draws, and enlarges those alone that are smaller than the crop within its ``pad``.
    """
    short = short_side(image_shape)
    shown = [_find_shown(sides, image_shape, preset, pad) for sides in measure_sides(path, summary)]
    apart = [(least, most) for least, most in shown if least > short * FAR_APART or most * FAR_APART < short]
    if len(apart) <= FEW * len(shown):
        return []
    least, most = np.median(apart, axis=0)
    stored = round(short / preset.min_random_scale)
    scale = f"{least:.0f}" if round(least) == round(most) else f"{least:.0f} to {most:.0f}"
    images = "The images" if len(apart) == len(shown) else f"{100 * len(apart) / len(shown):.0f}% of the images"
    crop = "x".join(map(str, dict.fromkeys(image_shape[1:])))
    return [
        f"{images} in {path} are cut to {crop} pixels from a short side of {scale} pixels (the median), and "
        f"validation scales its own to {short}: training sees another scale. Records of {stored} pixels (im2rec.py "
        f"--resize {stored}) have the same"
    ]


def _find_shown(sides: tuple[int, int], image_shape: ImageShape, preset: Augmentation, pad: int) -> tuple[float, float]:
    """The least and most pixels that the short side of an image (H, W) has where training cuts its crop out."""
    least, most = (
        scale * min(sides) * find_enlargement((scale * sides[0], scale * sides[1]), image_shape[1:], pad)
        for scale in (preset.min_random_scale, preset.max_random_scale)
    )
    return least, most


def measure_sides(path: Path, summary: Summary) -> list[tuple[int, int]]:
    """The (height, width) of some images all over a file, without those that do not say."""
    records = RecordFile(path, summary.offsets)
    # At random: of every hundredth record a file in some order may have one kind alone.
    numbers = np.random.default_rng(0).choice(summary.count, min(summary.count, LOOKED_AT), replace=False)
    shapes = [stored_shape(records.read(number).image) for number in sorted(numbers.tolist())]
    return [(height, width) for width, height, _ in shapes if min(height, width)]
