"""The one way from encoded images to pixels: of records as they are made, training, evaluation and prediction.

Grey, CMYK and 16 bits become 8 bits of three colours, images are turned upright as their EXIF data say, what shows
through is white, and of an animation the first frame counts.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.imageheader import explain_refusal, find_format, has_more_samples
from mxnet_resnet.data.imageparts import cut_gif, drop_texts, read_chunks, read_orientation

STRIP = 256  # rows made of three colours at a time: few enough to bound the memory
_PILLOW = threading.Lock()  # its settings are those of the process


class ImageError(UserError):
    """An image that cannot be used; the words go behind its name."""


def decode(data: bytes) -> np.ndarray:
    """An encoded image as RGB (H, W, 3), uint8. Raises ImageError as `decode_bgr`."""
    return cv2.cvtColor(decode_bgr(data), cv2.COLOR_BGR2RGB)


def decode_bgr(data: bytes) -> np.ndarray:
    """An encoded image as BGR (H, W, 3), uint8: a JPEG or an opaque PNG to the bit as ImageRecordIter reads it.

    Raises ImageError for what is no image of the formats that are read, cut short, damaged or too large.
    """
    if reason := explain_refusal(data):
        raise ImageError(f"does not decode: {reason}")
    image = _imdecode(data, cv2.IMREAD_COLOR) if is_plain(data) else _decode_layers(data)
    if image is None:
        raise ImageError("does not decode")
    return image


def is_plain(data: bytes) -> bool:
    """Whether an image has colours alone, so that any program that reads it sees the same."""
    name = find_format(data)
    if name == "PNG":
        may_be_clear = b"tRNS" in data and b"tRNS" in read_chunks(data)[0]  # the first is quick, and mostly enough
        return data[25:26] not in (b"\x04", b"\x06") and not may_be_clear
    return name in ("JPEG", "PNM") or (name == "TIFF" and not has_more_samples(data))


def looks_plain(data: bytes) -> bool:
    """Whether MXNet, which looks at colours alone, sees an image as `decode_bgr` does. Raises ImageError as that."""
    if is_plain(data):
        return True
    if find_format(data) == "GIF":  # which its own OpenCV does not read, other than that of today
        return False
    seen = _imdecode(data, cv2.IMREAD_COLOR)
    return seen is not None and np.array_equal(seen, decode_bgr(data))


def _imdecode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(drop_texts(data) if find_format(data) == "PNG" else data, np.uint8), flags)
    except cv2.error:
        return None


def _decode_layers(data: bytes) -> np.ndarray | None:
    """An image that can be seen through, or that OpenCV does not read as it should, as BGR (H, W, 3), uint8, on white.

    None where it does not decode.
    """
    name = find_format(data)
    if name in ("GIF", "TIFF"):
        return _decode_with_pillow(cut_gif(data)[0] if name == "GIF" else data)
    layers = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if layers is None or layers.dtype not in (np.uint8, np.uint16):
        return None
    through = _find_transparent_grey(data, layers) if layers.ndim == 2 and name == "PNG" else None
    image = np.empty((*layers.shape[:2], 3), np.uint8)
    for top in range(0, len(image), STRIP):
        image[top : top + STRIP] = _as_colours(layers[top : top + STRIP], through)
    return _turn_upright(image, 1 if name == "BMP" else read_orientation(data))


def _find_transparent_grey(png: bytes, grey: np.ndarray) -> int | None:
    """The grey that a PNG says shows through, in the values of ``grey``: OpenCV leaves that out. None without one."""
    chunks = read_chunks(png)[0]
    if len(chunks.get(b"tRNS", b"")) != 2:
        return None
    most = np.iinfo(grey.dtype).max
    return int.from_bytes(chunks[b"tRNS"], "big") * (int(most) // ((1 << chunks[b"IHDR"][8]) - 1))


def _as_colours(layers: np.ndarray, through: int | None = None) -> np.ndarray:
    """Grey (H, W), of which ``through`` is transparent, BGR (H, W, 3) or BGRA (H, W, 4), of 8 or 16 bits, as 8-bit BGR
    (H, W, 3) on white.
    """
    if layers.ndim == 2 and through is None:
        layers = cv2.cvtColor(layers, cv2.COLOR_GRAY2BGR)
    elif layers.ndim == 2:
        alpha = np.where(layers == through, 0, np.iinfo(layers.dtype).max).astype(layers.dtype)
        layers = np.dstack([layers, layers, layers, alpha])
    if layers.dtype == np.uint16:
        layers = (layers >> 8).astype(np.uint8)
    if layers.shape[2] == 3 or layers[:, :, 3].min() == 255:
        return layers[:, :, :3]
    colours, alpha = layers[:, :, :3], layers[:, :, 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image that lies as EXIF's ``orientation`` says, upright."""
    if orientation in (2, 4, 5, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(np.rot90(image, (0, 0, 0, 2, 2, 1, 3, 3, 1)[orientation]))


def _decode_with_pillow(data: bytes) -> np.ndarray | None:
    """The first picture of a GIF or a TIFF as BGR (H, W, 3), uint8, upright, on white; None where it does not decode.

    OpenCV reads GIF from version 4.12 on, and multiplies a TIFF's colours by its transparency.
    """
    from PIL import Image, ImageOps

    try:
        with _strict_pillow(), Image.open(io.BytesIO(data), formats=("GIF", "TIFF")) as first:
            ImageOps.exif_transpose(first, in_place=True)
            image = np.empty((first.height, first.width, 3), np.uint8)
            for top in range(0, len(image), STRIP):
                strip = first.crop((0, top, first.width, min(top + STRIP, first.height))).convert("RGBA")
                image[top : top + STRIP] = _as_colours(cv2.cvtColor(np.array(strip), cv2.COLOR_RGBA2BGRA))
            return image
    except Exception:  # Pillow has many kinds for damaged files
        return None


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Let Pillow refuse files that are cut, which GluonCV changes for all, and leave the bound on pixels to us."""
    from PIL import Image, ImageFile

    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage, which an image survives or does not
        before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def silence_opencv() -> None:
    """Keep OpenCV from writing about images that it cannot decode: that is told in our words."""
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # the latter before OpenCV 4.14
    log.setLogLevel(0)
