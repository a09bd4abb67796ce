"""What an encoded image says of itself, read before a decoder believes it and takes the memory."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from mxnet_resnet.data.imagebounds import explain_size
from mxnet_resnet.data.imageparts import SCAN, cut_gif, read_chunks, read_tags, walk_jpeg, walk_tags

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
MOST_SCANS = 100  # of a JPEG, as libtiff has it: each takes time for all pixels
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell the size
PNM_HEADER = 1 << 16  # bytes that it may have, comments included
# Tags of TIFF.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 322, 323, 339
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # none, fax, LZW, JPEG, Deflate, PackBits
WHOLE_NUMBERS, SIGNED, FLOATS = 1, 2, 3  # values of SAMPLE_FORMAT
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # samples that a pixel has without transparency, by PHOTOMETRIC, where more than 1

_ANY_FORMAT = re.compile(b"|".join(b"(%b)" % first for first in (*FORMATS.values(), *OTHERS.values())), re.DOTALL)
_NAMES = (*FORMATS, *OTHERS)
_BETWEEN = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM_SIZE = re.compile(rb"P\d%b0*(\d{1,9})%b0*(\d{1,9})(?!\d)" % (_BETWEEN, _BETWEEN))


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
    if reason := explain_size(width, height, len(image)) or (_explain_tiff(image) if name == "TIFF" else ""):
        return reason
    if not _is_whole(image, name):
        return "it is cut short"
    if width <= 0 or height <= 0:
        return "it does not say how large it is"
    if name == "JPEG" and _has_many_scans(image):
        return f"it has more than {MOST_SCANS} scans, each of which takes time: save it again"
    return ""


def _explain_tiff(image: bytes) -> str:
    """Why a TIFF is not decoded, or nothing: its values are no colours, or its tags claim what takes memory or time."""
    numbers = [tag.number for tag in walk_tags(image)]
    if len(set(numbers)) < len(numbers):
        return "it is a TIFF that has a tag twice"
    if sum(tag.size for tag in walk_tags(image)) > len(image):
        return "it is a TIFF whose tags claim more bytes than it has"
    tags = read_tags(image)
    if reason := explain_size(tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0), len(image)):
        return f"in a tile, {reason}"
    if tags.get(COMPRESSION, 1) not in COMPRESSIONS:
        return f"it is a TIFF of the compression {tags[COMPRESSION]}: save it with LZW or Deflate"
    bits, kind = tags.get(BITS, 1), tags.get(SAMPLE_FORMAT, WHOLE_NUMBERS)
    if kind in (SIGNED, FLOATS) or bits > 16:
        values = {SIGNED: "signed numbers", FLOATS: "fractions"}.get(kind, "whole numbers")
        return f"its values are {values} of {bits} bits: save it with whole numbers of 8 or 16"
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
    for marker, at in walk_jpeg(image):
        if marker in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", image, at + 5)
            return width, height, channels
    return 0, 0, 3


def _shape_of_png(image: bytes) -> tuple[int, int, int]:
    width, height, _, colour = struct.unpack_from(">IIBB", image, 16)
    return width, height, {0: 1, 4: 2, 6: 4}.get(colour, 3)


def _shape_of_gif(image: bytes) -> tuple[int, int, int]:
    _, width, height = cut_gif(image)
    return width, height, 3


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
    found = _PNM_SIZE.match(image[:PNM_HEADER])
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


def has_more_samples(tiff: bytes) -> bool:
    """Whether the pixels of a TIFF have more than their colours: transparency, or what nobody knows."""
    tags = read_tags(tiff)
    return tags.get(SAMPLES, 1) > COLOURS.get(tags.get(PHOTOMETRIC, 1), 1)


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
    return next((at for marker, at in walk_jpeg(jpeg) if marker == SCAN), len(jpeg))


def _has_many_scans(jpeg: bytes) -> bool:
    if jpeg.count(b"\xff\xda") <= MOST_SCANS:  # quick, but thumbnails and what follows the end count
        return False
    return sum(marker == SCAN for marker, _ in walk_jpeg(jpeg)) > MOST_SCANS
