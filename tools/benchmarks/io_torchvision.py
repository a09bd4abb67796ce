"""torchvision on the same records: a DataLoader with a process a core, which decodes with PIL.

Its own transforms draw crops of the same sizes, and give bytes as our reader does.
"""

from __future__ import annotations

import io
from math import atan, degrees
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.io_readers import BATCH_SIZE, Reader, Workload
from mxnet_resnet.data import recordio
from mxnet_resnet.data.augment import FILL

BRIGHTNESS, SATURATION, HUE = 0.4, 0.4, 0.2  # as far as level 2 shifts colours


class RecordImages(Dataset):
    """The images of a .rec file, transformed."""

    def __init__(self, path: Path, transform: transforms.Compose):
        self.path, self.offsets, self.transform = path, recordio.scan(path).offsets, transform
        self._records: recordio.RecordFile | None = None  # each process opens its own

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, float]:
        if self._records is None:
            self._records = recordio.RecordFile(self.path, self.offsets)
        record = self._records.read(number)
        return self.transform(Image.open(io.BytesIO(record.image)).convert("RGB")), record.label


def make_reader(workload: Workload, path: Path, processes: int) -> Reader:
    """Epochs by processes that stay, and have been started."""
    loader = DataLoader(
        RecordImages(path, make_transforms(workload)),
        BATCH_SIZE,
        shuffle=True,
        num_workers=processes,
        persistent_workers=True,
        multiprocessing_context="spawn",  # MXNet is in this process, which cannot be forked then
    )
    for _ in loader:
        pass
    return lambda: loader


def make_transforms(workload: Workload) -> transforms.Compose:
    """What is drawn at a level, in torchvision's words."""
    preset, steps = workload.preset, []
    if preset.max_rotate_angle:
        shear = degrees(atan(preset.max_shear_ratio))
        steps.append(transforms.RandomAffine(preset.max_rotate_angle, shear=shear, fill=FILL))
    if preset.warps:
        ratios = 1 - preset.max_aspect_ratio, 1 + preset.max_aspect_ratio
        steps.append(transforms.RandomResizedCrop(workload.crop, workload.shares, ratios))
    else:
        steps.append(transforms.RandomCrop(workload.crop, workload.pad, fill=FILL))
    steps.append(transforms.RandomHorizontalFlip())
    if preset.colours:
        steps.append(transforms.ColorJitter(brightness=BRIGHTNESS, saturation=SATURATION, hue=HUE))
    return transforms.Compose([*steps, transforms.PILToTensor()])
