"""An array of structures in a file of MATLAB, version 5, as the development kit of ILSVRC has it. No size in it is
believed, as scipy would do.

Source: "MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Union

LARGEST = 1 << 26  # bytes that are unpacked
HEADER, SMALL = 128, 1 << 16
COMPRESSED, MATRIX = 15, 14
CHARACTERS, STRUCTURES = 4, 2  # classes of arrays
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

Value = Union[str, float]


def read_structures(data: bytes, name: str) -> list[dict[str, Value]]:
    """The structures of the array of this name, their fields that are text or numbers: of a number, the first.

    Raises ValueError or struct.error where there is no such array.
    """
    if data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is no MAT-file of version 5")
    order = "<" if data[126:128] == b"IM" else ">"
    for kind, element in _walk(data[HEADER:], order):
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(element, LARGEST)
            if unpacker.unconsumed_tail:
                raise ValueError("it unpacks to more than such a file has")
            kind, element = next(_walk(unpacked, order), (0, b""))
        if kind == MATRIX:
            flags, _, named, *rest = _parts(element, order)
            if named == name.encode() and flags == STRUCTURES:
                return _split(rest, order)
    raise ValueError(f"it has no structures {name}")


def _walk(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The (kind, bytes) of each element."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >= SMALL:  # four bytes at most, in the place of the size
            kind, size = kind % SMALL, kind // SMALL
            yield kind, data[at + 4 : at + 4 + min(size, 4)]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + (size if kind == COMPRESSED else (size + 7) // 8 * 8)


def _parts(matrix: bytes, order: str) -> list:
    """The class of an array, its shape, its name, and the (kind, bytes) of the elements behind them."""
    elements = list(_walk(matrix, order))
    if len(elements) < 3:
        raise ValueError("an array ends in its header")
    (_, flags), (_, shape), (_, name) = elements[:3]
    return [struct.unpack_from(f"{order}I", flags)[0] & 0xFF, shape, name, *elements[3:]]


def _split(elements: list[tuple[int, bytes]], order: str) -> list[dict[str, Value]]:
    """The structures whose fields follow each other in ``elements``."""
    (_, longest), (_, names), *fields = elements
    (width,) = struct.unpack(f"{order}i", longest)
    if width < 1:
        raise ValueError("its fields have no names")
    keys = [names[at : at + width].split(b"\0")[0].decode() for at in range(0, len(names), width)]
    if not keys or len(fields) % len(keys):
        raise ValueError("its fields are not those of structures")
    values = [_read_value(field, order) if kind == MATRIX else None for kind, field in fields]
    rows = (zip(keys, values[at : at + len(keys)]) for at in range(0, len(values), len(keys)))
    return [{key: value for key, value in row if value is not None} for row in rows]


def _read_value(matrix: bytes, order: str) -> Value | None:
    """A text, or the first of numbers; None for anything else."""
    if not matrix:
        return None
    flags, _, _, *rest = _parts(matrix, order)
    if not rest:
        return "" if flags == CHARACTERS else None
    kind, data = rest[0]
    if flags == CHARACTERS and kind in TEXTS:
        wide = {"<": "-le", ">": "-be"}[order] if TEXTS[kind] in ("utf-16", "utf-32") else ""
        return data.decode(TEXTS[kind] + wide)
    if kind in NUMBERS and data:
        return struct.unpack_from(f"{order}{NUMBERS[kind]}", data)[0]
    return None
