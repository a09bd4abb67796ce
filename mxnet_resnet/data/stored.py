"""Small data sets decoded once, and the crops of an epoch as places in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.data.augment import FILL
from mxnet_resnet.data.loading import decoded
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.data.recordio import RecordFile
from mxnet_resnet.data.transform import evaluation_transform

IMAGES_A_TASK = 64  # so that handing a task to a thread costs nothing


@dataclass(frozen=True)
class StoredImages:
    """A data set in memory.

    Attributes:
        pixels: (N, H, W, 3), RGB, uint8, with the padding around each.
        labels: (N,), float32.
    """

    pixels: np.ndarray
    labels: np.ndarray


def store_training(records: TrainingRecords, most: int) -> StoredImages | None:
    """The images that an epoch's crops are cut from, padded.

    None where they would take more than ``most`` bytes, are of several sizes or smaller than a crop, or where more than
    the place of a crop is drawn.
    """
    if records.augmentation.warps or records.augmentation.colours:
        return None
    stored = _store(records, lambda image: image, most)
    if stored is None:
        return None
    around = (records.pad, records.pad)
    pixels = stored.pixels
    if records.pad:
        pixels = np.pad(pixels, ((0, 0), around, around, (0, 0)), constant_values=FILL)
    fits = all(side >= wanted for side, wanted in zip(pixels.shape[1:3], records.image_shape[1:]))
    return StoredImages(pixels, stored.labels) if fits else None


def store_validation(records: ValidationRecords, most: int) -> StoredImages | None:
    """The images as the net sees them. None where they would take more than ``most`` bytes."""
    return _store(records, lambda image: evaluation_transform(image, records.image_shape), most)


def find_places(records: TrainingRecords, epoch: int, size: tuple[int, int]) -> np.ndarray:
    """The crops of an epoch in padded images of ``size`` (H, W): (4, batches, batch size), int64.

    In rows: the numbers of the records, the upper and the left edges of the crops, and whether they are mirrored. They
    are those that ``records.epoch`` cuts.
    """
    order = records.order(epoch)
    draws = records.draws(epoch)[order].astype(np.float64)
    free = np.array(size) - records.image_shape[1:] + 1
    tops, lefts = (draws[:, 4:6] * free).astype(np.int64).T
    mirrored = (draws[:, 6] < 0.5) & records.mirror
    return np.stack([order, tops, lefts, mirrored]).reshape(4, -1, records.batch_size)


def _store(
    records: TrainingRecords | ValidationRecords, transform: Callable[[np.ndarray], np.ndarray], most: int
) -> StoredImages | None:
    """All images behind ``transform``, or None where their sizes differ, or they take more than ``most`` bytes."""
    count = records.summary.count
    file = RecordFile(records.path, records.summary.offsets)

    def load(number: int) -> tuple[np.ndarray, float]:
        record = file.read(number)
        with decoded(record) as image:
            return transform(image), record.label

    first, _ = load(0)
    if first.nbytes * count > most:
        return None
    pixels, labels = np.empty((count, *first.shape), np.uint8), np.empty(count, np.float32)

    def fill(begin: int) -> bool:
        for number in range(begin, min(begin + IMAGES_A_TASK, count)):
            image, labels[number] = load(number)
            if image.shape != first.shape:
                return False
            pixels[number] = image
        return True

    done = compute_ahead(fill, range(0, count, IMAGES_A_TASK), records.threads)
    return StoredImages(pixels, labels) if all(same for _, same in done) else None
