"""The one evaluation transform, which validation and prediction share.

Short side to ``short_side`` (bilinear, the long side rounded down), then the centre crop: what MXNet's
``ImageRecordIter(resize=...)`` does, to the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.errors import UserError
from mxnet_resnet.imageheader import plausible

ImageShape = tuple[int, int, int]
LARGEST_SIDE = 32766  # that OpenCV resizes and warps
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
    short = short_side(image_shape)
    height, width = image.shape[:2]
    size = sides_for(height, width, short)
    check_sides(size)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    _, crop_height, crop_width = image_shape
    top = (image.shape[0] - crop_height) // 2
    left = (image.shape[1] - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def as_input(images: Sequence[np.ndarray], image_shape: ImageShape) -> np.ndarray:
    """RGB images (H, W, 3), uint8, through the evaluation transform to the input (N, 3, H, W), float32, 0..255."""
    crops = np.stack([evaluation_transform(image, image_shape) for image in images])
    return crops.transpose(0, 3, 1, 2).astype(np.float32)


def read_image(path: str | Path) -> np.ndarray:
    """An image file as RGB (H, W, 3), uint8, turned upright as its EXIF data say. Raises UserError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read image {path}: {error.strerror}") from error
    image = decode(data)
    if image is None:
        raise UserError(f"{path} is not an image that OpenCV can decode")
    return image


def decode(data: bytes) -> np.ndarray | None:
    """An encoded image as RGB (H, W, 3), uint8, or None where it does not decode."""
    image = decode_bgr(data)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_bgr(data: bytes) -> np.ndarray | None:
    """An encoded image as OpenCV has it, BGR (H, W, 3), uint8, or None where it does not decode."""
    if not data or not plausible(data):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
