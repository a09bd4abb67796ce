"""The files of CIFAR's archives, of the binary and of the Python version, in tars, folders, and tars in folders."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.pickles import CarefulUnpickler
from mxnet_resnet.data import tarwalk
from mxnet_resnet.data.cifar import MEBIBYTE, CifarImages, Dataset

PIXELS = 3 * 32 * 32
LARGEST_BATCH = 256 * MEBIBYTE
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")


class _PickledArray:
    """Stands for a NumPy array while a pickle is read: the array is made of its bytes afterwards."""

    state: Any = None

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, if it is of uint8 in the order of C. Raises ValueError or TypeError."""
        _, shape, kind, fortran, data = self.state
        if fortran or kind.name not in (b"u1", "u1"):
            raise ValueError("the images are not uint8 in the order of C")
        return np.frombuffer(data, np.uint8).reshape(shape)


class _PickledType:
    """Stands for a NumPy dtype while a pickle is read."""

    def __init__(self, name: object, *_: object):
        self.name = name

    def __setstate__(self, _: object) -> None:
        pass


class _Unpickler(CarefulUnpickler):
    """Reads containers, numbers, strings and NumPy arrays, and calls nothing that a pickle names."""

    NAMES = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.NAMES:
            return super().find_class(module, name)
        return self.NAMES[module, name]


def read_binary(data: bytes, count: int, dataset: Dataset, where: str) -> CifarImages:
    """A file of the binary version. Raises UserError."""
    row = dataset.label_bytes + PIXELS
    if len(data) != count * row:
        raise UserError(f"{where} has {len(data):,} bytes, and {count:,} images are {count * row:,}")
    rows = np.frombuffer(data, np.uint8).reshape(count, row)
    return CifarImages(rows[:, dataset.label_bytes - 1], rows[:, dataset.label_bytes :])


def read_pickle(data: bytes, count: int, dataset: Dataset, where: str) -> CifarImages:
    """A file of the Python version. Raises UserError."""
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        labels = batch[dataset.label_key]
        if not isinstance(labels, list) or not all(type(label) is int and 0 <= label <= 255 for label in labels):
            raise ValueError("the labels are no whole numbers from 0 on")
        images = CifarImages(np.array(labels, np.uint8), batch[b"data"].array())
    except Exception as error:  # a damaged pickle can raise any
        raise UserError(f"{where} is not a pickled CIFAR batch: {error!s:.200}") from error
    if images.labels.shape != (count,) or images.pixels.shape != (count, PIXELS):
        raise UserError(
            f"{where} has {images.pixels.shape} pixels and {images.labels.shape} labels, not {count:,} images"
        )
    return images


VERSIONS: dict[str, Callable[[bytes, int, Dataset, str], CifarImages]] = {".bin": read_binary, "": read_pickle}


def load(source: Path, dataset: Dataset) -> tuple[CifarImages, CifarImages]:
    """The training and the validation images of an archive, or of a folder with it or with what was in it.

    Raises UserError where files are missing or damaged.
    """
    names = (*dataset.train, *dataset.val)
    found = _find_files(source, names)
    version = max(VERSIONS, key=lambda ending: sum(name + ending in found for name in names))
    missing = [name + version for name in names if name + version not in found]
    if missing:
        raise UserError(f"{source} has no {', '.join(missing)}: is it the whole of the data set?")

    def read(names: tuple[str, ...], count: int) -> CifarImages:
        batches = [_read_batch(VERSIONS[version], *found[name + version], count, dataset) for name in names]
        return CifarImages(*map(np.concatenate, zip(*batches)))

    return read(dataset.train, dataset.train_images), read(dataset.val, dataset.val_images)


def _read_batch(read: Callable[..., CifarImages], data: bytes, where: str, count: int, dataset: Dataset) -> CifarImages:
    """A batch whose labels are classes."""
    images = read(data, count, dataset, where)
    if images.labels.max() >= len(dataset.classes):
        number = int(images.labels.argmax())
        raise UserError(f"{where}, image {number}: there is no class {images.labels[number]}")
    return images


def _find_files(source: Path, names: tuple[str, ...]) -> dict[str, tuple[bytes, str]]:
    """The content of the files of either version and where it is from, until one version is complete."""
    versions = [{name + ending for name in names} for ending in VERSIONS]
    found: dict[str, tuple[bytes, str]] = {}
    for name, data, where in _walk(source, set().union(*versions)):
        found.setdefault(name, (data, where))
        if any(version <= found.keys() for version in versions):
            break
    return found


def _walk(source: Path, names: set[str]) -> Iterator[tuple[str, bytes, str]]:
    """The (name, content, place) of the files of these ``names`` in a folder, and then of those in its tar files."""
    if not source.exists():
        raise UserError(f"there is no file or folder {source}")
    if source.is_file():
        yield from _walk_tar(source, names)
        return
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    for path in paths:
        if path.name in names:
            yield path.name, _read_bounded(path.read_bytes, path.stat().st_size, str(path)), str(path)
    for path in paths:
        if path.name.endswith(TAR_ENDINGS):
            yield from _walk_tar(path, names)


def _walk_tar(path: Path, names: set[str]) -> Iterator[tuple[str, bytes, str]]:
    """As ``_walk``, from a tar file; nothing is unpacked."""
    with tarwalk.opened(path) as (archive, end):
        for member in tarwalk.walk_members(archive, path, 0, end):
            name, where = member.name.rpartition("/")[2], f"{path}, {member.name}"
            if name in names:
                yield name, _read_bounded(partial(tarwalk.read_member, archive, member), member.size, where), where


def _read_bounded(read: Callable[[], bytes], size: int, where: str) -> bytes:
    """What ``read`` gives, unless it would be more than there can be in a batch."""
    if size > LARGEST_BATCH:
        raise UserError(f"{where} has {size:,} bytes, too many for a CIFAR batch")
    return read()
