"""Where a step finds its images and labels: at one place on the device, so that the step can be repeated there."""

from __future__ import annotations

from typing import Protocol

import torch

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.torch.resident import Places, ResidentImages


class Feed(Protocol):
    """The next batch, on the device."""

    def load(self, batch: Batch | Places) -> None:
        """Bring a batch there, without waiting for it."""

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Its images (N, 3, H, W), RGB, 0..255, channels last, and labels (N,), int64, or distributions (N, K)."""


class HostFeed:
    """Takes batches that were read: their arrays are copied to the device."""

    def __init__(self, batch: Batch, device: torch.device):
        images = torch.from_numpy(batch.images)
        self.images = torch.zeros_like(images, device=device, memory_format=torch.channels_last)
        kind = torch.int64 if batch.labels.ndim == 1 else images.dtype
        self.labels = torch.zeros(batch.labels.shape, dtype=kind, device=device)

    def load(self, batch: Batch | Places) -> None:
        self.images.copy_(torch.from_numpy(batch.images))
        self.labels.copy_(torch.from_numpy(batch.labels))

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, self.labels


class ResidentFeed:
    """Takes the places of crops in a data set that the device keeps, and cuts them out there."""

    def __init__(self, batch: Places, data: ResidentImages):
        self.data = data
        self.places = torch.zeros_like(batch.places)

    def load(self, batch: Batch | Places) -> None:
        assert isinstance(batch, Places)
        self.places.copy_(batch.places)

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.data.cut(self.places), self.data.labels[self.places[0]]


def make(batch: Batch | Places, device: torch.device) -> Feed:
    """The feed for batches like this one."""
    return ResidentFeed(batch, batch.data) if isinstance(batch, Places) else HostFeed(batch, device)


def describe(batch: Batch | Places) -> tuple[object, ...]:
    """What batches of one feed have in common."""
    if isinstance(batch, Places):
        return id(batch.data), tuple(batch.places.shape)
    return batch.images.shape, batch.labels.shape
