"""Whether training and validation records go together: their classes, their names, the scale of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.augment import Augmentation
from mxnet_resnet.data.classnames import find_names, name_some, read_names
from mxnet_resnet.data.imageheader import stored_shape
from mxnet_resnet.data.recordio import RecordFile, Summary
from mxnet_resnet.data.transform import ImageShape, short_side

LOOKED_AT = 256  # records of a file whose sizes are read
# Between the scales of training and validation that is told: 224 pixels of images of 224 or of 256 are near enough.
FAR_APART = 1.25


def compare_labels(train: Summary, val: Summary) -> list[str]:
    """What is to be said of validation that has not the classes of training."""
    notes = []
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


def compare_scales(path: Path, summary: Summary, image_shape: ImageShape, preset: Augmentation) -> list[str]:
    """What is to be said where training shows its images at another scale than validation.

    Validation makes the short side of an image `transform.short_side`; training cuts crops out of images as they are
    stored, scaled by what ``preset`` draws, and enlarges those alone that are smaller than the crop.
    """
    short = short_side(image_shape)
    crop = max(image_shape[1:])
    shown = max(crop, measure_short_side(path, summary) * preset.min_random_scale)
    largest = max(crop, measure_short_side(path, summary) * preset.max_random_scale)
    if shown <= short * FAR_APART and largest >= short / FAR_APART:
        return []
    stored = round(short / preset.min_random_scale)
    scale = f"{shown:.0f}" if shown == largest else f"{shown:.0f} to {largest:.0f}"
    return [
        f"The images in {path} are cut to {crop} pixels from a short side of {scale} pixels (the median), and "
        f"validation scales its own to {short}: training sees another scale. Records of {stored} pixels (im2rec.py "
        f"--resize {stored}) have the same"
    ]


def measure_short_side(path: Path, summary: Summary) -> float:
    """The median of the short sides, in pixels, of some images all over a file; 0 where none of them says."""
    records = RecordFile(path, summary.offsets)
    step = -(-summary.count // LOOKED_AT)
    sides = [min(stored_shape(records.read(number).image)[:2]) for number in range(0, summary.count, step)]
    known = [side for side in sides if side]
    return float(np.median(known)) if known else 0.0
