"""The container of MXNet's .params files, walked over before MXNet loads it: MXNet believes what its sizes say.

mxnet/src/ndarray/ndarray.cc: a magic number, the arrays, then their names. Numbers are little endian.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path

from mxnet_resnet.base.errors import UserError

FILE_MAGIC = 0x112
WITH_STORAGE_TYPE = (0xF993FAC9, 0xF993FACA)  # MXNet 1.0 and later, and with NumPy's shapes
WITH_LONG_SHAPE = 0xF993FAC8  # before; older still, the number of dimensions stands in the place of a magic number
BYTES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 12: 2}  # by type: float32, float64, float16, uint8, ...
MOST_DIMENSIONS = 32


class _Reader:
    def __init__(self, path: Path):
        self.path = path
        self.size = path.stat().st_size
        self.file = path.open("rb")

    def numbers(self, kinds: str) -> tuple[int, ...]:
        data = self.file.read(struct.calcsize("<" + kinds))
        if len(data) < struct.calcsize("<" + kinds):
            self.refuse()
        return struct.unpack("<" + kinds, data)

    def skip(self, count: int) -> None:
        if count > self.size - self.file.tell():
            self.refuse()
        self.file.seek(count, 1)

    def refuse(self) -> None:
        raise UserError(f"{self.path} is cut short or no MXNet parameter file")


def check(path: Path) -> None:
    """Raise UserError unless ``path`` is a whole container of dense arrays, each within the file."""
    reader = _Reader(path)
    with reader.file:
        magic, _, arrays = reader.numbers("QQQ")
        if magic != FILE_MAGIC:
            reader.refuse()
        for _ in range(arrays):
            _skip_array(reader)
        (names,) = reader.numbers("Q")
        if names not in (0, arrays):
            reader.refuse()
        for _ in range(names):
            reader.skip(*reader.numbers("Q"))


def _skip_array(reader: _Reader) -> None:
    (magic,) = reader.numbers("I")
    if magic in WITH_STORAGE_TYPE:
        if reader.numbers("i") != (0,):
            reader.refuse()  # sparse: no net here has such an array
        shape = _shape(reader, *reader.numbers("i"), "q")
    elif magic == WITH_LONG_SHAPE:
        shape = _shape(reader, *reader.numbers("I"), "q")
    else:
        shape = _shape(reader, magic, "I")
    if not shape:
        return
    _, _, kind = reader.numbers("iii")  # device, its number, type
    if kind not in BYTES or min(shape) < 0:
        reader.refuse()
    reader.skip(prod(shape) * BYTES[kind])


def _shape(reader: _Reader, dimensions: int, kind: str) -> tuple[int, ...]:
    if not 0 <= dimensions <= MOST_DIMENSIONS:
        reader.refuse()
    return reader.numbers(str(dimensions) + kind) if dimensions else ()
