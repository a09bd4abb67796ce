"""What each data type is, and the defaults that follow from it: pure data.

The epochs, learning rate steps and batch sizes of ``imagenet`` and ``cifar10`` are those of the MXNet ResNet-v2
repository, which the published logs were trained with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGENET_CLASSES = 1000
IMAGENET_SYNSET = Path(__file__).resolve().with_name("synset.txt")  # their names, a line each
# Who reads training records: our threads, or a reader of an engine, MXNet's ImageRecordIter.
OURS = "opencv"
BACKENDS = (OURS, "imagerecorditer")


@dataclass(frozen=True)
class DataType:
    """Defaults of a data type; each can be overruled by a flag.

    Attributes:
        stem: the family of nets for its images, one of ``architecture.STEMS``.
        num_classes: number of labels, 0 where the user has to say.
        image_shape: (C, H, W) at the network's input.
        train: name of the training records in the data directory, by augmentation level where that matters.
        val: name of the validation records.
        depth, batch_size (total), epochs, lr_steps (epochs), aug_level: defaults of the flags of that name.
        pad: pixels of value 127 put around a training image before it is cropped.
        mirror: whether a mirrored image is still one of its class.
        frequent: batches between two lines of the log.
    """

    stem: str
    num_classes: int
    image_shape: tuple[int, int, int]
    train: dict[int, str]
    val: str
    depth: int
    batch_size: int
    epochs: int
    lr_steps: tuple[int, ...]
    aug_level: int
    pad: int = 0
    mirror: bool = True
    frequent: int = 50


def _same(name: str) -> dict[int, str]:
    return dict.fromkeys((1, 2, 3), name)


_Defaults = dict[str, Any]
_IMAGENET_TRAIN = {1: "train_256_q90.rec", 2: "train_480_q90.rec", 3: "train_480_q90.rec"}
_IMAGENET: _Defaults = dict(stem="imagenet", image_shape=(3, 224, 224), epochs=120, lr_steps=(30, 60, 90), aug_level=2)
_CIFAR: _Defaults = dict(stem="cifar", image_shape=(3, 32, 32), epochs=200, lr_steps=(120, 160), aug_level=1, pad=4)

DATA_TYPES = {
    "imagenet": DataType(
        num_classes=IMAGENET_CLASSES,
        train=_IMAGENET_TRAIN,
        val="val_256_q90.rec",
        depth=50,
        batch_size=256,
        **_IMAGENET,
    ),
    "imagenet11k": DataType(
        num_classes=11221, train=_IMAGENET_TRAIN, val="val_256_q90.rec", depth=200, batch_size=256, **_IMAGENET
    ),
    "cifar10": DataType(
        num_classes=10, train=_same("cifar10_train.rec"), val="cifar10_val.rec", depth=164, batch_size=128, **_CIFAR
    ),
    "cifar100": DataType(
        num_classes=100, train=_same("cifar100_train.rec"), val="cifar100_val.rec", depth=164, batch_size=128, **_CIFAR
    ),
    "digits": DataType(
        stem="cifar",
        num_classes=10,
        image_shape=(3, 32, 32),
        train=_same("digits_train.rec"),
        val="digits_val.rec",
        depth=20,
        batch_size=64,
        epochs=20,
        lr_steps=(12, 17),
        aug_level=1,
        pad=4,
        mirror=False,
        frequent=10,
    ),
}
