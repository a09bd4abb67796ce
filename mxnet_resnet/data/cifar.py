"""CIFAR-10 and CIFAR-100: what their archives hold, where they are, and records of them.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.writer import RecordWriter

SITE = "https://www.cs.toronto.edu/~kriz/"
MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
}
MEBIBYTE = 1 << 20


class CifarImages(NamedTuple):
    """Labels (N,) and pixels (N, 3072), the planes R, G and B of 32x32 pixels each, both uint8."""

    labels: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set as its archives have it.

    Attributes:
        archive: the official binary version.
        train, val: names of the files of the Python version; those of the binary version end in .bin.
        train_images, val_images: images in each of them.
        label_bytes: of an image in the binary version; the label that counts is the last.
        label_key: of the labels in the Python version.
        classes: in the order of the labels.
    """

    archive: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    train_images: int
    val_images: int
    label_bytes: int
    label_key: bytes
    classes: tuple[str, ...]


CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
DATASETS = {
    "cifar10": Dataset(
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        val=("test_batch",),
        train_images=10_000,
        val_images=10_000,
        label_bytes=1,
        label_key=b"labels",
        classes=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    ),
    "cifar100": Dataset(
        archive="cifar-100-binary.tar.gz",
        train=("train",),
        val=("test",),
        train_images=50_000,
        val_images=10_000,
        label_bytes=2,
        label_key=b"fine_labels",
        classes=tuple(CIFAR100_CLASSES.split()),
    ),
}


def download(dataset: Dataset, folder: Path) -> Path:
    """The official binary archive in ``folder``, where it may be already.

    Raises UserError unless it can be had, and its checksum is right.
    """
    name = dataset.archive
    path = folder / name
    if path.is_file() and _compute_md5(path) == MD5[name]:
        return path
    with replacing(path) as (part,):
        with part.open("wb") as file:
            file.writelines(_receive(SITE + name))
        if (found := _compute_md5(part)) != MD5[name]:
            raise UserError(f"{SITE}{name} has the MD5 {found}, not {MD5[name]}: it was not kept, try again")
    return path


def _receive(url: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            total = -(-int(response.headers["Content-Length"] or 0) // MEBIBYTE)
            yield from progress(iter(lambda: response.read(MEBIBYTE), b""), url, total, unit="MiB")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot download {url}: {getattr(error, 'reason', error)}") from error


def _compute_md5(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(MEBIBYTE), b""):
            md5.update(piece)
    return md5.hexdigest()


def encode_png(pixels: np.ndarray) -> bytes:
    """An image's planes R, G, B (3072,) as a PNG file."""
    bgr = np.ascontiguousarray(pixels.reshape(3, 32, 32)[::-1].transpose(1, 2, 0))
    return cv2.imencode(".png", bgr)[1].tobytes()


def write_records(prefix: Path, images: CifarImages, order: np.ndarray, workers: int) -> None:
    """Write ``images`` in ``order``, their numbers (N,), to ``PREFIX.rec``, or what is left to do of them."""
    content = zlib.crc32(images.pixels.tobytes(), zlib.crc32(images.labels.tobytes()))
    with RecordWriter(prefix, {"content": content, "order": zlib.crc32(order.tobytes())}) as writer:
        done = 1 + order.tolist().index(writer.last_key) if writer.count else 0
        numbers = order[done:].tolist()
        with closing(compute_ahead(lambda number: encode_png(images.pixels[number]), numbers, workers)) as encoded:
            for number, image in progress(encoded, prefix.name, len(order), done):
                writer.write(number, float(images.labels[number]), image, f"{prefix.name}/{number:05d}.png")
