"""The nets that are measured on GPUs, PreActResNets as torch-resnet has them, and records of synthetic images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import Net
from mxnet_resnet.data.writer import RecordWriter
from mxnet_resnet.settings.run import make
from mxnet_resnet.settings.sections import RunSettings

LARGE = (50, 101, 152, 200)  # depths of nets for 224 px; all others are for CIFAR, PreActResNet18 and 34 too
DISTINCT = 16  # images, which are encoded once each
CIFAR_IMAGES, CIFAR_STEPS = 50_000, 100  # of an epoch: CIFAR's own, or these steps of nets that take longer
DEEPEST_SHALLOW = 56  # layers of nets for CIFAR that train all of it in a second or two
LARGE_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Records:
    """Where synthetic images are."""

    train: Path
    val: Path


def title(net: Net) -> str:
    """``PreActResNet18 (small images), 128``."""
    depth, images = net
    return f"PreActResNet{depth}{' (small images)' if depth in (18, 34) else ''}, {images}"


def data_type(depth: int) -> str:
    """Whose images a net is for."""
    return "imagenet" if depth in LARGE else "cifar10"


def describe_run(net: Net, gpus: list[int], **more: Any) -> RunSettings:
    """The settings of a run; ``more`` are values of flags of train_resnet.py. Raises UserError where it cannot be."""
    depth, images = net
    flags = {"data_type": data_type(depth), "network": f"preact_resnet{depth}", "batch_size": images, "gpus": gpus}
    return make(**{**flags, "engine": "torch", "optimizer": "sgd", "wd_on": "weights", "aug_level": 1, **more})


def count_images(net: Net) -> int:
    """Training images of an epoch: enough that it takes a second or more."""
    depth, images = net
    if depth in LARGE:
        return LARGE_STEPS * images
    return CIFAR_IMAGES if depth <= DEEPEST_SHALLOW else CIFAR_STEPS * images


def write_records(folder: Path, net: Net, count: int) -> Records:
    """Records of ``count`` images for training, and a fifth of that for validation."""
    settings = describe_run(net, [])
    encoded = list(_encode_images(settings.data.image_shape[1]))
    for name, size in (("train", count), ("val", -(-count // 5))):
        with RecordWriter(folder / name, listing=False) as writer:
            for key in range(size):
                label = key % len(encoded) % settings.data.classes
                writer.write(key, label, encoded[key % len(encoded)], "")
    return Records(folder / "train.rec", folder / "val.rec")


def _encode_images(side: int) -> Iterator[bytes]:
    """Images of soft noise: small ones as PNG, as CIFAR's are kept, others as JPEG."""
    rng = np.random.default_rng(0)
    for _ in range(DISTINCT):
        coarse = rng.integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
        image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        yield cv2.imencode(".png" if side <= 32 else ".jpg", image)[1].tobytes()
