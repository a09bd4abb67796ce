"""What an encoded image says of itself, read before OpenCV believes it and takes the memory."""

from __future__ import annotations

import struct

# Pixels of an image, and of each of its bytes (a PNG of one bit a pixel comes near): flipped bits can claim gigabytes.
LARGEST_IMAGE, DENSEST_IMAGE = 1 << 26, 10_000
PNG = b"\x89PNG\r\n\x1a\n"
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell the size
ALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers that no length follows


def stored_shape(image: bytes) -> tuple[int, int, int]:
    """The width, height and channels that a JPEG or PNG says it has; 0, 0, 3 where it is neither."""
    if image.startswith(PNG) and len(image) >= 26:
        width, height, _, colour = struct.unpack_from(">IIBB", image, 16)
        return width, height, {0: 1, 4: 2, 6: 4}.get(colour, 3)
    at = 2 if image.startswith(b"\xff\xd8") else len(image)
    while 0 <= (at := image.find(b"\xff", at)) <= len(image) - 10:
        marker = image[at + 1]
        if marker in FRAMES:
            height, width, channels = struct.unpack_from(">HHB", image, at + 5)
            return width, height, channels
        length = 0 if marker in ALONE else int.from_bytes(image[at + 2 : at + 4], "big")
        at += 1 if marker in (0x00, 0xFF) else 2 + length
    return 0, 0, 3


def chunks_fit(image: bytes) -> bool:
    """Whether a PNG is as long as its chunks say; OpenCV takes the memory that they claim, up to 2 GB."""
    at, kind = 8 if image.startswith(PNG) else len(image), b""
    while kind != b"IEND" and at < len(image):
        kind = image[at + 4 : at + 8]
        at += 12 + int.from_bytes(image[at : at + 4], "big")
    return at <= len(image)


def plausible(image: bytes) -> bool:
    """Whether a JPEG or PNG can have the pixels and the chunks that it claims; True for any other format."""
    width, height, _ = stored_shape(image)
    return width * height <= DENSEST_IMAGE * len(image) and chunks_fit(image)


def is_whole(image: bytes) -> bool:
    """Whether a JPEG or PNG has its end; True for any other format. OpenCV makes up the rest of a JPEG without one."""
    if image.startswith(PNG):
        return chunks_fit(image) and b"IEND" in image
    scan = _first_scan(image) if image.startswith(b"\xff\xd8") else None
    return scan is None or image.find(b"\xff\xd9", scan) >= 0


def may_have_alpha(image: bytes) -> bool:
    """Whether an image can be transparent: a PNG that says so, any WebP or TIFF."""
    if image.startswith(PNG):
        return image[25:26] in (b"\x04", b"\x06") or b"tRNS" in image
    return image[8:12] == b"WEBP" or image[:4] in (b"II*\0", b"MM\0*")


def _first_scan(image: bytes) -> int:
    """Where the pixels of a JPEG begin, behind the header, which can hold a thumbnail; its length where they do not."""
    at = 2
    while 0 <= (at := image.find(b"\xff", at)) <= len(image) - 4:
        marker = image[at + 1]
        if marker == 0xDA:
            return at
        length = 0 if marker in ALONE else int.from_bytes(image[at + 2 : at + 4], "big")
        at += 1 if marker in (0x00, 0xFF) else 2 + length
    return len(image)
