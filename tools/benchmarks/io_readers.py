"""What is read, and by whom: ours, ImageRecordIter, and the readers of others where they are installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.common import not_installed, tell_left_out
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.data.stored import StoredEpochs

CIFAR_SIDE = 32
BATCH_SIZE = 32
# Readers of others: the module that calls them, and what it imports.
OTHERS = {
    "torchvision": ("io_torchvision", ("torch", "torchvision")),
    "DALI": ("io_dali", ("nvidia.dali",)),
}

Reader = Callable[[], Iterable]  # a call reads an epoch


@dataclass(frozen=True)
class Workload:
    """One way to read.

    Attributes:
        name: in the table.
        stored: the short side of the stored images.
        crop: its side.
        level: of the augmentation.
        pad: pixels around an image.
        later: measured is an epoch behind the first, before which images that are kept in memory were decoded.
    """

    name: str
    stored: int
    crop: int
    level: int
    pad: int = 0
    later: bool = False

    @property
    def preset(self) -> augment.Augmentation:
        return augment.level(self.level, small_images=self.stored == CIFAR_SIDE)

    @property
    def shares(self) -> list[float]:
        """The least and the largest part of a square image that a crop shows."""
        scales = self.preset.max_random_scale, self.preset.min_random_scale
        return [(self.crop / (self.stored * scale)) ** 2 for scale in scales]


WORKLOADS = (
    Workload("level 1, 256-pixel records", 256, 224, 1),
    Workload("level 2, 480-pixel records", 480, 224, 2),
    Workload("level 3, 480-pixel records", 480, 224, 3),
    Workload("CIFAR, first epoch", CIFAR_SIDE, CIFAR_SIDE, 1, pad=4),
    Workload("CIFAR, later epochs", CIFAR_SIDE, CIFAR_SIDE, 1, pad=4, later=True),
)


def make_readers(workload: Workload, path: Path, threads: int, compare: bool) -> dict[str, Reader]:
    """The readers by their names; those that keep processes or images between epochs are past their first one.

    With ``compare`` others are among them; which of them are not installed is told.
    """
    readers: dict[str, Reader] = {
        "ImageRecordIter": partial(read_originally, workload, path),
        "ours": make_ours(workload, path, threads),
    }
    if compare:
        for name, (module, packages) in OTHERS.items():
            missing = not_installed(packages)
            tell_left_out(name, missing)
            if not missing:
                readers[name] = import_module(f"benchmarks.{module}").make_reader(workload, path, threads)
    return readers


def make_ours(workload: Workload, path: Path, threads: int) -> Reader:
    """The reader of train_resnet.py."""
    shape = (3, workload.crop, workload.crop)
    summary = recordio.scan(path)
    records = TrainingRecords(
        path, summary, shape, BATCH_SIZE, workload.preset, workload.pad, mirror=True, seed=0, threads=threads
    )
    if not workload.later:
        return lambda: StoredEpochs().read(records, 0, 0)
    epochs = StoredEpochs()
    epochs.read(records, 0, 0)
    return lambda: epochs.read(records, 1, 0)


def read_originally(workload: Workload, path: Path) -> Iterable:
    """The call in the MXNet ResNet-v2 repository."""
    from benchmarks.prepared import mx

    for batch in mx.io.ImageRecordIter(
        path_imgrec=str(path),
        label_width=1,
        data_name="data",
        label_name="softmax_label",
        data_shape=(3, workload.crop, workload.crop),
        batch_size=BATCH_SIZE,
        pad=workload.pad,
        fill_value=127,
        rand_crop=True,
        rand_mirror=True,
        shuffle=True,
        verbose=False,
        **dataclasses.asdict(workload.preset),
    ):
        batch.data[0].wait_to_read()
        yield batch
