"""The one evaluation transform, which validation and prediction share.

Short side to ``short_side`` (bilinear, the long side rounded down), then the centre crop: what MXNet's
``ImageRecordIter(resize=...)`` does, to the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.decoding import ImageError, decode

ImageShape = tuple[int, int, int]
LARGEST_SIDE = 32766  # that OpenCV resizes and warps
LARGEST_THUMBNAIL = 256  # pixels of the long side
SMALLEST_SIDE = 2  # of an image to be classified
CROPS = ("center", "ten", "squash")
SHORT_SIDES = {224: 256, 320: 364}  # before the centre crop, by the crop


def short_side(image_shape: ImageShape) -> int:
    """Pixels that the short side of an image has before the centre crop of ``image_shape`` (C, H, W) is taken.

    256 for 224, as in training on 256-pixel records, 364 for 320, and in proportion; small images (CIFAR) are not
    enlarged.
    """
    crop = max(image_shape[1:])
    return crop if crop <= 64 else SHORT_SIDES.get(crop, round(crop * 256 / 224))


def sides_for(height: int, width: int, short: int) -> tuple[int, int]:
    """The (width, height) of an image resized to a short side of ``short``, the long one rounded down as by MXNet."""
    return (short, short * height // width) if height > width else (short * width // height, short)


def check_sides(sides: Sequence[int]) -> None:
    """Raise UserError for an image that would have a side longer than OpenCV resizes and warps."""
    if max(sides) > LARGEST_SIDE:
        raise UserError(f"an image this large, or too narrow for its crop, would be {max(sides)} pixels long")


def evaluation_transform(image: np.ndarray, image_shape: ImageShape) -> np.ndarray:
    """An RGB image (H, W, 3), uint8, of any size to the crop (H, W, 3), uint8, of ``image_shape`` (C, H, W).

    Its values are the network's input, but for their order. Raises UserError for an image too narrow to be resized.
    """
    image, height, width = _resized(image, image_shape)
    return _cut(image, height // 2, width // 2, image_shape)


def crops(image: np.ndarray, image_shape: ImageShape, kind: str = "center") -> np.ndarray:
    """What a net sees of an RGB image (H, W, 3), uint8: crops (K, H, W, 3), uint8, whose probabilities are averaged.

    ``kind`` is one of CROPS: the evaluation transform; the four corners, the centre, and these mirrored (Krizhevsky et
    al. 2012, section 4.1); or the whole image squashed, as the MXNet ResNet-v2 repository predicts. Raises UserError
    as ``evaluation_transform`` does.
    """
    if kind == "squash":
        return cv2.resize(image, image_shape[:0:-1], interpolation=cv2.INTER_LINEAR)[None]
    if kind == "center":
        return evaluation_transform(image, image_shape)[None]
    image, height, width = _resized(image, image_shape)
    places = ((0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2))
    five = [_cut(image, top, left, image_shape) for top, left in places]
    return np.stack([*five, *(crop[:, ::-1] for crop in five)])


def _resized(image: np.ndarray, image_shape: ImageShape) -> tuple[np.ndarray, int, int]:
    """An image with the short side that its crops are taken at, and how far down and right a crop can lie."""
    size = sides_for(image.shape[0], image.shape[1], short_side(image_shape))
    check_sides(size)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image, image.shape[0] - image_shape[1], image.shape[1] - image_shape[2]


def _cut(image: np.ndarray, top: int, left: int, image_shape: ImageShape) -> np.ndarray:
    return image[top : top + image_shape[1], left : left + image_shape[2]]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An RGB image (H, W, 3), uint8, at most LARGEST_THUMBNAIL pixels long."""
    height, width = image.shape[:2]
    scale = LARGEST_THUMBNAIL / max(height, width)
    if scale >= 1:
        return image
    return cv2.resize(image, (max(1, int(width * scale)), max(1, int(height * scale))), interpolation=cv2.INTER_AREA)


def read_image(path: str | Path) -> np.ndarray:
    """An image file as RGB (H, W, 3), uint8, turned upright as its EXIF data say. Raises UserError."""
    return photograph(read_bytes(path), path)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file. Raises UserError where there is none."""
    return sources.read(path, "image", sources.LARGEST_IMAGE)


def photograph(data: bytes, name: str | Path) -> np.ndarray:
    """An encoded image as RGB (H, W, 3), uint8, as `decoding.decode` has it.

    Raises UserError, with ``name``, for what does not decode, and for a line of pixels.
    """
    try:
        image = decode(data)
    except ImageError as error:
        raise UserError(f"{name} {error}") from error
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(f"{name} is {width}x{height} pixels, too narrow to show anything")
    return image
