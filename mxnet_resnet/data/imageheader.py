"""What an encoded image says of itself, read before a decoder believes it and takes the memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

# The formats that are read, by their first bytes. A decoder is given nothing else, whatever a file is called: that of
# JPEG 2000 in OpenCV has had holes.
FORMATS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "WebP": rb"RIFF....WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
    "PNM": rb"P[1-6]\s",
}
# Formats that are known, so that they can be named, and are not read.
OTHERS = {
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(?:hei[a-z]|hev[a-z]|mif1|msf1)",
    "BigTIFF": rb"II\+\0|MM\0\+",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?R",
    "PSD": rb"8BPS",
    "SVG": rb"\s*(?:<\?xml[^>]*>\s*)?<svg",
}
# What files of these formats are called.
EXTENSIONS = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Pixels of an image, and of each of its bytes (a PNG of one bit a pixel comes near): flipped bits can claim gigabytes.
LARGEST_IMAGE, DENSEST_IMAGE = 1 << 28, 10_000
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell the size
ALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers that no length follows
# Tags of TIFF, and of EXIF data, which are one.
WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, SAMPLE_FORMAT = 256, 257, 258, 262, 274, 277, 339
WHOLE_NUMBERS, SIGNED, FLOATS = 1, 2, 3  # values of SAMPLE_FORMAT
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # samples that a pixel has without transparency, by PHOTOMETRIC, where more than 1
SHORT, LONG = 3, 4  # kinds of values of tags

_ANY_FORMAT = re.compile(b"|".join(b"(%b)" % first for first in (*FORMATS.values(), *OTHERS.values())), re.DOTALL)
_NAMES = (*FORMATS, *OTHERS)
_PNM_SIZE = re.compile(rb"P\d(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})")


def find_format(image: bytes) -> str:
    """The name of an image's format, one of FORMATS or OTHERS; nothing where it is none of them."""
    found = _ANY_FORMAT.match(image)
    return _NAMES[found.lastindex - 1] if found and found.lastindex else ""


def explain_refusal(image: bytes) -> str:
    """Why an image is not given to a decoder, or nothing: its format, its size, or that it is cut."""
    if not image:
        return "it has 0 bytes"
    name = find_format(image)
    if name not in FORMATS:
        kinds = ", ".join(FORMATS)
        return f"it is {name}, and what is read is {kinds}" if name else f"it is not an image of a format read: {kinds}"
    width, height, _ = stored_shape(image)
    if width * height > min(LARGEST_IMAGE, DENSEST_IMAGE * len(image)):
        return (
            f"its {len(image):,} bytes claim {width}x{height} pixels, and {LARGEST_IMAGE:,} are the most that are "
            f"read, {DENSEST_IMAGE:,} a byte"
        )
    if name == "TIFF" and (reason := _explain_tiff(image)):
        return reason
    return "" if _is_whole(image, name) else "it is cut short"


def _explain_tiff(image: bytes) -> str:
    """Why the values of a TIFF are no colours, or nothing."""
    tags = read_tags(image)
    bits, kind = tags.get(BITS, 1), tags.get(SAMPLE_FORMAT, WHOLE_NUMBERS)
    if kind in (SIGNED, FLOATS) or bits > 16:
        values = {SIGNED: "signed numbers", FLOATS: "fractions"}.get(kind, "whole numbers")
        return f"its values are {values} of {bits} bits: save it with whole numbers of 8 or 16 bits"
    if bits == 16 and tags.get(SAMPLES, 1) == 2:
        return "it is a TIFF of 16-bit grey with transparency: save it with 8 bits, or as a PNG"
    return ""


def stored_shape(image: bytes) -> tuple[int, int, int]:
    """The width, height and channels (3 where only a decoder knows) that an image says it has; 0, 0, 3 for no image."""
    try:
        return _SHAPES.get(find_format(image), _no_shape)(image)
    except (struct.error, IndexError):
        return 0, 0, 3


def _no_shape(image: bytes) -> tuple[int, int, int]:
    return 0, 0, 3


def _shape_of_jpeg(image: bytes) -> tuple[int, int, int]:
    at = 2
    while 0 <= (at := image.find(b"\xff", at)) <= len(image) - 10:
        marker = image[at + 1]
        if marker in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", image, at + 5)
            return width, height, channels
        length = 0 if marker in ALONE else int.from_bytes(image[at + 2 : at + 4], "big")
        at += 1 if marker in (0x00, 0xFF) else 2 + length
    return 0, 0, 3


def _shape_of_png(image: bytes) -> tuple[int, int, int]:
    width, height, _, colour = struct.unpack_from(">IIBB", image, 16)
    return width, height, {0: 1, 4: 2, 6: 4}.get(colour, 3)


def _shape_of_gif(image: bytes) -> tuple[int, int, int]:
    return (*struct.unpack_from("<HH", image, 6), 3)


def _shape_of_bmp(image: bytes) -> tuple[int, int, int]:
    old = image[14] == 12
    width, height = struct.unpack_from("<HH" if old else "<ii", image, 18)
    return abs(width), abs(height), 3


def _shape_of_webp(image: bytes) -> tuple[int, int, int]:
    kind = image[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(image[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", image, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", image, 26))
    return width, height, 3


def _shape_of_tiff(image: bytes) -> tuple[int, int, int]:
    tags = read_tags(image)
    return tags.get(WIDTH, 0), tags.get(HEIGHT, 0), min(tags.get(SAMPLES, 1), 4)


def _shape_of_pnm(image: bytes) -> tuple[int, int, int]:
    found = _PNM_SIZE.match(image)
    return (int(found[1]), int(found[2]), 3 if image[1:2] in b"36" else 1) if found else (0, 0, 3)


_SHAPES: dict[str, Callable[[bytes], tuple[int, int, int]]] = {
    "JPEG": _shape_of_jpeg,
    "PNG": _shape_of_png,
    "GIF": _shape_of_gif,
    "BMP": _shape_of_bmp,
    "WebP": _shape_of_webp,
    "TIFF": _shape_of_tiff,
    "PNM": _shape_of_pnm,
}


def read_tags(data: bytes) -> dict[int, int]:
    """The tags of the first directory of a TIFF, or of EXIF data, whose values are whole numbers: the first of each."""
    tags: dict[int, int] = {}
    order = "<" if data.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
            if kind in (SHORT, LONG):
                inside = values * (2 if kind == SHORT else 4) <= 4
                place = entry + 8 if inside else struct.unpack_from(f"{order}I", data, entry + 8)[0]
                (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", data, place)
    except struct.error:
        pass  # what was read before counts
    return tags


def read_orientation(image: bytes) -> int:
    """How a PNG or a WebP lies, as EXIF numbers it from 1, which is upright, to 8."""
    png = find_format(image) == "PNG"
    exif = read_chunks(image)[0].get(b"eXIf", b"") if png else _find_in_webp(image, b"EXIF")
    found = read_tags(exif[6:] if exif.startswith(b"Exif\0\0") else exif).get(ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def read_chunks(png: bytes) -> tuple[dict[bytes, bytes], bool]:
    """The chunks of a PNG before its pixels, by their names, and whether the file has all that its chunks claim."""
    chunks: dict[bytes, bytes] = {}
    at, kind, seen = 8, b"", False
    while kind != b"IEND" and at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        seen |= kind == b"IDAT"
        if not seen:
            chunks.setdefault(kind, png[at + 8 : at + 8 + length])
        at += 12 + length
    return chunks, kind == b"IEND" and at <= len(png)


def has_more_samples(tiff: bytes) -> bool:
    """Whether the pixels of a TIFF have more than their colours: transparency, or what nobody knows."""
    tags = read_tags(tiff)
    return tags.get(SAMPLES, 1) > COLOURS.get(tags.get(PHOTOMETRIC, 1), 1)


def _find_in_webp(image: bytes, name: bytes) -> bytes:
    at = 12
    while at + 8 <= len(image):
        length = int.from_bytes(image[at + 4 : at + 8], "little")
        if image[at : at + 4] == name:
            return image[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""


def _is_whole(image: bytes, name: str) -> bool:
    """Whether a JPEG or PNG has its end; True for any other format. OpenCV makes up the rest of a JPEG without one.

    Nor would it be let near a PNG whose chunks claim more than is there: it takes the memory, up to 2 GB.
    """
    if name == "PNG":
        return read_chunks(image)[1]
    if name != "JPEG" or image.endswith(b"\xff\xd9"):
        return True
    return image.find(b"\xff\xd9", _first_scan(image)) >= 0


def _first_scan(jpeg: bytes) -> int:
    """Where the pixels of a JPEG begin, behind the header, which can hold a thumbnail; its length where they do not."""
    at = 2
    while 0 <= (at := jpeg.find(b"\xff", at)) <= len(jpeg) - 4:
        marker = jpeg[at + 1]
        if marker == 0xDA:
            return at
        length = 0 if marker in ALONE else int.from_bytes(jpeg[at + 2 : at + 4], "big")
        at += 1 if marker in (0x00, 0xFF) else 2 + length
    return len(jpeg)
