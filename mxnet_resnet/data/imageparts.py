"""The parts that files of images are made of: segments, chunks, blocks, tags. What they claim is not believed."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

# JPEG markers: those that no length follows, the beginning of a scan, the end.
ALONE, SCAN, END = {0x01, *range(0xD0, 0xDA)}, 0xDA, 0xD9
ORIENTATION = 274  # a tag
# Kinds of values of tags: whole numbers as struct has them, and the bytes of any.
WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
BYTES = {2: 1, 5: 8, 7: 1, 10: 8, 11: 4, 12: 8, **{kind: struct.calcsize(f"<{code}") for kind, code in WHOLE.items()}}

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # but for those that part the pixels of a scan, which can be many
_TEXTS = (b"zTXt", b"iTXt")


class Tag(NamedTuple):
    """A tag of a TIFF or of EXIF data: its number, the first of its values where that is whole, and its bytes."""

    number: int
    value: int | None
    size: int


def walk_jpeg(jpeg: bytes) -> Iterator[tuple[int, int]]:
    """The (marker, first byte) of each segment of a JPEG up to its end; pixels are passed over."""
    at = 2
    while found := _MARKER.search(jpeg, at):
        at, marker = found.start(), jpeg[found.start() + 1]
        yield marker, at
        if marker == END:
            return
        at += 2 + (0 if marker in ALONE else int.from_bytes(jpeg[at + 2 : at + 4], "big"))


def walk_chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The (name, first byte, end) of each chunk of a PNG up to IEND; the last one may end behind the file."""
    at, name = 8, b""
    while name != b"IEND" and at < len(png):
        length, name = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        yield name, at, at + 12 + length
        at += 12 + length


def read_chunks(png: bytes) -> tuple[dict[bytes, bytes], bool]:
    """The chunks of a PNG before its pixels, by their names, and whether the file has all that its chunks claim."""
    chunks: dict[bytes, bytes] = {}
    name, end, seen = b"", 8, False
    for name, at, end in walk_chunks(png):
        seen |= name == b"IDAT"
        if not seen:
            chunks.setdefault(name, png[at + 8 : end - 4])
    return chunks, name == b"IEND" and end <= len(png)


def drop_texts(png: bytes) -> bytes:
    """A PNG without its compressed texts, of which a megabyte takes libpng seconds."""
    if not any(name in png for name in _TEXTS):
        return png
    return png[:8] + b"".join(png[at:end] for name, at, end in walk_chunks(png) if name not in _TEXTS)


def cut_gif(gif: bytes) -> tuple[bytes, int, int]:
    """A GIF with its first image alone, without comments, which take Pillow time, and the width and height of both.

    An image may lie partly outside of what the file says that it shows, and it may be missing.
    """
    width, height = struct.unpack_from("<HH", gif, 6)
    at = head = 13 + _colours(gif[10])
    control = b""
    while at + 10 < len(gif) and gif[at] != 0x2C:
        if gif[at] == 0x21:
            end = _end_of_blocks(gif, at + 2)
            if gif[at + 1] == 0xF9:
                control = gif[at:end]
            at = end
        else:
            at += 1
    if at + 10 >= len(gif):
        return gif[:head] + b";", width, height
    left, top, inner_width, inner_height = struct.unpack_from("<4H", gif, at + 1)
    first = gif[:head] + control + gif[at : _end_of_blocks(gif, at + 11 + _colours(gif[at + 9]))] + b";"
    return first, max(width, left + inner_width), max(height, top + inner_height)


def _colours(flags: int) -> int:
    """The bytes of the table of colours that follows."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _end_of_blocks(gif: bytes, at: int) -> int:
    while at < len(gif) and gif[at]:
        at += 1 + gif[at]
    return at + 1


def walk_tags(data: bytes) -> Iterator[Tag]:
    """The tags of the first directory of a TIFF, or of EXIF data, as far as they are there."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            number, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
            size, value = values * BYTES.get(kind, 0), None
            if kind in WHOLE and values:
                place = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
                (value,) = struct.unpack_from(f"{order}{WHOLE[kind]}", data, place)
            yield Tag(number, value, size)
    except struct.error:
        return


def read_tags(data: bytes) -> dict[int, int]:
    """The first values of the tags of `walk_tags`, those that are whole numbers."""
    return {tag.number: tag.value for tag in walk_tags(data) if tag.value is not None}


def read_orientation(image: bytes) -> int:
    """How a PNG or a WebP lies, as EXIF numbers it from 1, which is upright, to 8."""
    png = image.startswith(b"\x89PNG")
    exif = read_chunks(image)[0].get(b"eXIf", b"") if png else _find_in_webp(image, b"EXIF")
    found = read_tags(exif[6:] if exif.startswith(b"Exif\0\0") else exif).get(ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def _find_in_webp(image: bytes, name: bytes) -> bytes:
    at = 12
    while at + 8 <= len(image):
        length = int.from_bytes(image[at + 4 : at + 8], "little")
        if image[at : at + 4] == name:
            return image[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""
