"""Where a step finds its images and labels: at one place on the device, so that the step can be repeated there."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Takes batches that were read: their arrays are copied to the device, by two ways in turn where that is a GPU.

    They go as they are, images as bytes; the device casts them, and brings them to its layout.
    """

    def __init__(self, batch: Batch, device: torch.device):
        images = torch.from_numpy(batch.images)
        real = torch.float32 if images.dtype == torch.uint8 else images.dtype
        self.images = torch.zeros_like(images, dtype=real, device=device, memory_format=torch.channels_last)
        kind = torch.int64 if batch.labels.ndim == 1 else real
        self.labels = torch.zeros(batch.labels.shape, dtype=kind, device=device)
        self._ways: list[_Way] = []

    def load(self, batch: Batch | Places) -> None:
        assert isinstance(batch, Batch)
        wanted = (self.images, self.labels)
        given: Sequence[torch.Tensor] = [torch.from_numpy(array) for array in (batch.images, batch.labels)]
        if self.images.is_cuda:
            self._ways = self._ways[::-1] or [_Way(given, self.images.device) for _ in range(2)]
            given = self._ways[0].send(given)
        for tensor, source in zip(wanted, given):
            tensor.copy_(source)
        if self._ways:
            self._ways[0].free()

    def take(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, self.labels


class _Way:
    """Brings tensors to a GPU while it computes, through pinned memory; and waits for those before to be used up."""

    def __init__(self, like: Sequence[torch.Tensor], device: torch.device):
        self._here = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in like]
        self._there = [torch.empty(tensor.shape, dtype=tensor.dtype, device=device) for tensor in like]
        self._stream, self._used = torch.cuda.Stream(device), torch.cuda.Event()
        self._stream.wait_stream(torch.cuda.current_stream(device))  # whose memory it writes to

    def send(self, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors like the first ones; on the GPU they are there for what its current stream does from now on."""
        self._used.synchronize()
        for here, tensor in zip(self._here, given):
            here.copy_(tensor)
        current = torch.cuda.current_stream(self._stream.device)
        with torch.cuda.stream(self._stream):
            for there, here in zip(self._there, self._here):
                there.copy_(here, non_blocking=True)
        current.wait_stream(self._stream)
        return self._there

    def free(self) -> None:
        """Say that what was sent is used up by what the current stream does up to now."""
        self._used.record(torch.cuda.current_stream(self._stream.device))


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
    return batch.images.shape, batch.images.dtype, batch.labels.shape
