"""Data sets that a device keeps as bytes, and cuts crops from by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from mxnet_resnet.data import stored
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.data.stored import StoredImages

SHARE = 16  # of the memory of a GPU: one data set may take one part of so many


class ResidentImages:
    """A data set on a device.

    Attributes:
        pixels: (N, H, W, 3), RGB, uint8, with the padding around each.
        labels: (N,), int64.
        labels_here: the same in main memory, float32.
    """

    def __init__(self, images: StoredImages, size: tuple[int, int], device: torch.device):
        self.pixels = torch.from_numpy(images.pixels).to(device)
        self.labels = torch.from_numpy(images.labels).to(device, torch.int64)
        self.labels_here = images.labels
        height, self._width = size
        self._down, self._across = torch.arange(height, device=device), torch.arange(self._width, device=device)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images, padding included."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def cut(self, places: torch.Tensor) -> torch.Tensor:
        """Crops (N, 3, H, W), float32, channels last, at places (4, N) as of stored.find_places."""
        numbers, tops, lefts, mirrored = places[:, :, None].unbind()
        rows = tops + self._down
        columns = lefts + torch.where(mirrored > 0, self._width - 1 - self._across, self._across)
        found = self.pixels[numbers[:, :, None], rows[:, :, None], columns[:, None, :]]
        return found.permute(0, 3, 1, 2).float()


class Places(NamedTuple):
    """A batch whose images are on the device.

    Attributes:
        places: (4, N), int64, there too, as of stored.find_places.
        labels: (N,), float32.
        count: from 1 to N; the rest fills the batch up.
        data: the data set.
    """

    places: torch.Tensor
    labels: np.ndarray
    count: int  # type: ignore[assignment]  # tuple's own method of this name is of no use here
    data: ResidentImages


class DataSets:
    """The data sets that a device keeps; each is decoded once.

    Attributes:
        most: the bytes that one may take.
        validated: pixels of a validation batch, where a batch of training has less: small images are many at a time.
    """

    def __init__(self, device: torch.device, most: int, validated: int = 2**20):
        self.device, self.most, self.validated = device, most, validated
        self._kept: dict[tuple[object, ...], ResidentImages | None] = {}

    def read(self, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Places] | None:
        """The batches of an epoch (base.Session.read)."""
        data = self._keep(records, records.pad, records.augmentation)
        if data is None:
            return None
        places = stored.find_places(records, epoch, data.image_size)[:, skip:]
        return self._deal(data, places, places[0].size)

    def read_validation(self, records: ValidationRecords) -> Iterator[Places] | None:
        """The validation batches (base.Session.read_validation)."""
        data = self._keep(records)
        if data is None:
            return None
        numbers = np.arange(records.part, records.summary.count, records.num_parts)
        size = max(records.batch_size, self.validated // int(np.prod(records.image_shape[1:])))
        batches = -(-len(numbers) // size)
        places = np.zeros((4, batches * size), np.int64)
        places[0] = np.pad(numbers, (0, places.shape[1] - len(numbers)), "edge")
        return self._deal(data, places.reshape(4, batches, -1), len(numbers))

    def _deal(self, data: ResidentImages, places: np.ndarray, count: int) -> Iterator[Places]:
        """Batches at ``places`` (4, batches, batch size), brought to the device together; ``count`` are of the data."""
        there = torch.from_numpy(places).to(self.device)
        labels, size = data.labels_here[places[0]], places.shape[2]
        for index in range(places.shape[1]):
            yield Places(there[:, index], labels[index], min(size, count - index * size), data)

    def _keep(self, records: TrainingRecords | ValidationRecords, *settings: object) -> ResidentImages | None:
        """A data set on the device, or None where it does not fit or has to be read."""
        key = (records.path, records.image_shape, *settings)
        if key not in self._kept:
            self._kept[key] = self._bring(records)
        return self._kept[key]

    def _bring(self, records: TrainingRecords | ValidationRecords) -> ResidentImages | None:
        store = stored.store_training if isinstance(records, TrainingRecords) else stored.store_validation
        images = store(records, self.most)
        if images is None:
            return None
        if isinstance(records, TrainingRecords):
            images = replace(images, pixels=stored.pad_images(images.pixels, records.pad))
        logging.info("Keeping %s on the device: %s", records.path, images.describe())
        return ResidentImages(images, records.image_shape[1:], self.device)
