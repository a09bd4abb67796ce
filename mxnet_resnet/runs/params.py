"""MXNet's .params files as NumPy arrays, read and written without MXNet.

The container is that of mxnet/src/ndarray/ndarray.cc: a magic number, the arrays, then their names. Numbers are little
endian. What a size in a file says is believed only where the file has as many bytes.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

FILE_MAGIC = 0x112
LONG_SHAPE = 0xF993FAC8  # before MXNet 1.0; older still, the number of dimensions stands in the place of this number
STORAGE_TYPE = 0xF993FAC9  # MXNet 1.0 and later
NUMPY_SHAPE = 0xF993FACA  # with NumPy's shapes, in which an array may have no axes
DENSE = 0
ON_CPU = (1, 0)  # a kind of device and its number, which who reads a file does not heed
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
BFLOAT16 = 12  # the upper half of a float32
NUMBERS = {np.dtype(name): number for number, name in TYPES.items()}
MOST_DIMENSIONS = 32  # of an array in NumPy
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, in its order; bfloat16, which NumPy has not, as the float32 of the same value.

    Raises UserError where the file is cut short, none of MXNet's, or holds what is no dense array with a name.
    """
    try:
        with sources.open_file(path, "") as file:
            return _Reader(path, file).read_file()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def begins_well(path: Path) -> bool:
    """Whether a file begins as those of MXNet do, which is known at once, however large it is."""
    with sources.open_file(path, "") as file:
        return file.read(8) == FILE_MAGIC.to_bytes(8, "little")


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays of one axis or more, byte for byte as mx.nd.save does.

    Raises UserError where the system refuses, or the disk is full.
    """
    try:
        with path.open("wb") as file:
            file.write(struct.pack("<3Q", FILE_MAGIC, 0, len(arrays)))
            for name, array in arrays.items():
                _write_array(file, name, array)
            file.write(struct.pack("<Q", len(arrays)))
            for name in arrays:
                text = name.encode()
                file.write(struct.pack("<Q", len(text)) + text)
    except OSError as error:
        reason = "the disk is full" if error.errno in FULL else error.strerror
        raise UserError(f"cannot write {path.parent}: {reason}") from error


def _write_array(file: IO[bytes], name: str, array: np.ndarray) -> None:
    number = NUMBERS.get(array.dtype.newbyteorder("<"))
    if number is None or not array.ndim:
        raise ValueError(f"MXNet's files hold no array of {array.dtype} with the shape {array.shape}: {name}")
    file.write(struct.pack(f"<Iii{array.ndim}q", STORAGE_TYPE, DENSE, array.ndim, *array.shape))
    file.write(struct.pack("<3i", *ON_CPU, number))
    file.write(np.ascontiguousarray(array, TYPES[number]).reshape(-1).view(np.uint8).data)


class _Reader:
    """Reads one open file, and takes no more memory than the file has bytes (twice that for bfloat16)."""

    def __init__(self, path: Path, file: BufferedReader):
        self.path, self.file = path, file
        self.left = os.fstat(file.fileno()).st_size

    def read_file(self) -> dict[str, np.ndarray]:
        magic, _, count = self._numbers("QQQ")
        if magic != FILE_MAGIC:
            self._refuse()
        arrays: list[np.ndarray] = []
        while len(arrays) < count:  # which may be any number, and the file end before
            arrays.append(self._array())
        (named,) = self._numbers("Q")
        if named != count:
            self._refuse("holds arrays without names" if not named else None)
        result: dict[str, np.ndarray] = {}
        for array in arrays:
            name = self._name()
            if name in result:
                self._refuse(f"holds two arrays of the name {name}")
            result[name] = array
        return result

    def _array(self) -> np.ndarray:
        (magic,) = self._numbers("I")
        if magic in (STORAGE_TYPE, NUMPY_SHAPE) and self._numbers("i") != (DENSE,):
            self._refuse("holds a sparse array, and nets have dense ones")
        if magic in (STORAGE_TYPE, NUMPY_SHAPE, LONG_SHAPE):
            (dimensions,) = self._numbers("i")
            shape = self._shape(dimensions, "q")
        else:
            shape = self._shape(magic, "I")
        if not shape and magic != NUMPY_SHAPE:
            self._refuse("holds an array without values")
        _, _, kind = self._numbers("3i")  # behind the device and its number
        if kind == BFLOAT16:
            return (self._values("<u2", shape).astype("<u4") << 16).view("<f4")
        if kind not in TYPES:
            self._refuse()
        return self._values("u1", shape) != 0 if TYPES[kind] == "?" else self._values(TYPES[kind], shape)

    def _shape(self, dimensions: int, kind: str) -> tuple[int, ...]:
        if not 0 <= dimensions <= MOST_DIMENSIONS:
            self._refuse()
        shape = self._numbers(f"{dimensions}{kind}")
        if min(shape, default=0) < 0:
            self._refuse()
        return shape

    def _values(self, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(kind)
        size = prod(shape) * dtype.itemsize
        self._take(size)
        if prod(side or 1 for side in shape) * dtype.itemsize > sys.maxsize:  # NumPy has no such array, not even empty
            self._refuse()
        array = np.empty(shape, dtype)
        if self.file.readinto(array.reshape(-1).view(np.uint8).data) != size:
            self._refuse()
        return array

    def _name(self) -> str:
        (length,) = self._numbers("Q")
        self._take(length)
        try:
            return self.file.read(length).decode()
        except UnicodeDecodeError:
            self._refuse()

    def _numbers(self, kinds: str) -> tuple[int, ...]:
        size = struct.calcsize(f"<{kinds}")
        self._take(size)
        data = self.file.read(size)
        if len(data) < size:
            self._refuse()
        return struct.unpack(f"<{kinds}", data)

    def _take(self, size: int) -> None:
        """Refuse the file unless it has so many bytes more."""
        if size > self.left:
            self._refuse()
        self.left -= size

    def _refuse(self, reason: str | None = None) -> NoReturn:
        raise UserError(f"{self.path} {reason or 'is cut short or no MXNet parameter file'}")
