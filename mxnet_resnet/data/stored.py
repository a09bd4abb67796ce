"""Small data sets decoded once, and the crops of an epoch as places in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.data.augment import FILL
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.loading import decoded
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.data.recordio import RecordFile
from mxnet_resnet.data.transform import ImageShape, evaluation_transform

IMAGES_A_TASK = 64  # so that handing a task to a thread costs nothing
MB = 2**20
SIDES: Any = (2, 3)  # axes of (N, C, H, W); NumPy's older stubs know one alone
MOST = 150 * MB  # of a data set in main memory: CIFAR's training images are 146.5


@dataclass(frozen=True)
class StoredImages:
    """A data set in memory.

    Attributes:
        pixels: (N, H, W, 3), RGB, uint8.
        labels: (N,), float32.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def describe(self) -> str:
        return f"{len(self.labels)} images, {self.pixels.nbytes / MB:.0f} MB"


class StoredEpochs:
    """Reads epochs of training records; small images are decoded once, and cut from memory from then on.

    It holds one data set of at most ``most`` bytes, the last one that was read.
    """

    def __init__(self, most: int = MOST):
        self.most = most
        self._key: tuple[object, ...] = ()
        self._stored: StoredImages | None = None

    def read(self, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of ``records.epoch``, to the byte. Raises UserError as that."""
        stored = self._find(records)
        return records.epoch(epoch, skip) if stored is None else cut_epoch(stored, records, epoch, skip)

    def _find(self, records: TrainingRecords) -> StoredImages | None:
        key = (records.path, records.image_shape, records.pad, records.augmentation)
        if key != self._key:
            self._stored = None  # before there are others
            self._stored, self._key = store_training(records, self.most), key
            if self._stored:
                logging.info("Keeping %s in memory: %s", records.path, self._stored.describe())
        return self._stored


def cut_epoch(stored: StoredImages, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Batch]:
    """The batches of an epoch from the one at ``skip`` on, cut from its images in memory."""
    height, width = stored.pixels.shape[1:3]
    places = find_places(records, epoch, (height + 2 * records.pad, width + 2 * records.pad))
    for index in range(skip, records.batches):
        numbers, tops, lefts, mirrored = places[:, index]
        images = pad_images(stored.pixels[numbers], records.pad)
        crops = _cut(images, tops, lefts, mirrored, records.image_shape)
        yield Batch(crops, stored.labels[numbers], records.batch_size)


def pad_images(pixels: np.ndarray, pad: int) -> np.ndarray:
    """Images (N, H, W, 3) with ``pad`` pixels of FILL around each."""
    around = (pad, pad)
    return np.pad(pixels, ((0, 0), around, around, (0, 0)), constant_values=FILL) if pad else pixels


def _cut(
    pixels: np.ndarray, tops: np.ndarray, lefts: np.ndarray, mirrored: np.ndarray, image_shape: ImageShape
) -> np.ndarray:
    """A crop (N, 3, H, W) of each image (N, H, W, 3) at these edges (N,), mirrored or not (N,)."""
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # it pays: crops are copied by their rows
    windows = sliding_window_view(planes, image_shape[1:], axis=SIDES)
    crops = windows[np.arange(len(pixels)), :, tops, lefts]
    turned = mirrored.astype(bool)
    crops[turned] = crops[turned, :, :, ::-1]
    return crops


def store_training(records: TrainingRecords, most: int) -> StoredImages | None:
    """The images that an epoch's crops are cut from, without the padding around them.

    None where they would take more than ``most`` bytes, are of several sizes or smaller than a crop, or where more than
    the place of a crop is drawn.
    """
    if records.augmentation.warps or records.augmentation.colours:
        return None
    least = [wanted - 2 * records.pad for wanted in records.image_shape[1:]]
    return _store(records, lambda image: image, most, least)


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
    records: TrainingRecords | ValidationRecords,
    transform: Callable[[np.ndarray], np.ndarray],
    most: int,
    least: Sequence[int] = (0, 0),
) -> StoredImages | None:
    """All images behind ``transform``.

    None where their sizes differ or are below ``least`` (H, W), or where they take more than ``most`` bytes.
    """
    count = records.summary.count
    file = RecordFile(records.path, records.summary.offsets)

    def load(number: int) -> tuple[np.ndarray, float]:
        record = file.read(number)
        with decoded(record) as image:
            return transform(image), record.label

    first, _ = load(0)
    if first.nbytes * count > most or first.shape[0] < least[0] or first.shape[1] < least[1]:
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
