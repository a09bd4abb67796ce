"""Training augmentation of one image, as MXNet's ImageRecordIter does it, from numbers that are drawn beforehand.

ImageRecordIter warps the whole image, crops it, and shifts the colours of the crop; here the warp goes straight to the
crop. The distributions are the same (src/io/image_aug_default.cc of MXNet 1.9.1), and so are the pixels where nothing
is random.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import ceil, cos, radians, sin

import cv2
import numpy as np

from mxnet_resnet.data.transform import check_sides

FILL = 127  # around an image
# Numbers an image: shear, angle, scale, aspect, top, left, mirror, and two each for hue, lightness and saturation.
DRAWS = 13


@dataclass(frozen=True)
class Augmentation:
    """Arguments of ImageRecordIter by their own names: scale and shape of the crop, colour in HSL, angle, shear."""

    min_random_scale: float = 1.0
    max_random_scale: float = 1.0
    max_aspect_ratio: float = 0.0
    random_h: int = 0
    random_s: int = 0
    random_l: int = 0
    max_rotate_angle: int = 0
    max_shear_ratio: float = 0.0

    @property
    def warps(self) -> bool:
        """Whether more than the place of the crop and its colours is random."""
        scales = self.min_random_scale != 1 or self.max_random_scale != 1
        return bool(scales or self.max_aspect_ratio or self.max_rotate_angle or self.max_shear_ratio)

    @property
    def colours(self) -> bool:
        """Whether colours are shifted."""
        return bool(self.random_h or self.random_s or self.random_l)


# Random crop and mirror are in each level. 0.533 is 256/480, hue 0.4 of 90, saturation and lightness 0.4 of 127.
LEVELS = {
    1: Augmentation(),
    2: Augmentation(min_random_scale=0.533, max_aspect_ratio=0.25, random_h=36, random_s=50, random_l=50),
    3: Augmentation(
        min_random_scale=0.533,
        max_aspect_ratio=0.25,
        random_h=36,
        random_s=50,
        random_l=50,
        max_rotate_angle=10,
        max_shear_ratio=0.1,
    ),
}


def level(number: int, small_images: bool) -> Augmentation:
    """The preset of a level; small images, which are stored at the net's input size, are not scaled down."""
    preset = LEVELS[number]
    return dataclasses.replace(preset, min_random_scale=1.0) if small_images else preset


def augment(
    image: np.ndarray, draws: np.ndarray, preset: Augmentation, size: tuple[int, int], pad: int = 0, mirror: bool = True
) -> np.ndarray:
    """A crop (H, W, 3), RGB, uint8, of ``size`` (H, W) from a BGR image (H, W, 3), uint8.

    ``draws`` are DRAWS numbers in [0, 1). An image that is too small for the crop is enlarged. Raises UserError for an
    image that OpenCV cannot warp.
    """
    check_sides(image.shape[:2])
    height, width = size
    draws = draws.astype(np.float64)  # else NumPy 1 and 2 round differently
    matrix, (new_height, new_width) = _warp(image.shape[:2], draws, preset)
    if (factor := find_enlargement((new_height, new_width), size, pad)) > 1:
        larger = [ceil(side * factor) + 1 for side in image.shape[1::-1]]
        check_sides(larger)
        image = cv2.resize(image, larger, interpolation=cv2.INTER_LINEAR)
        matrix, (new_height, new_width) = _warp(image.shape[:2], draws, preset)
    top = int(draws[4] * (new_height + 2 * pad - height + 1))
    left = int(draws[5] * (new_width + 2 * pad - width + 1))
    if preset.warps:
        crop = _warped_crop(image, matrix, (new_height, new_width), (top - pad, left - pad), size)
    else:
        crop = _plain_crop(image, (top - pad, left - pad), size)
    crop = _shift_colours(crop, draws, preset) if preset.colours else cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
    return cv2.flip(crop, 1) if mirror and draws[6] < 0.5 else crop


def find_enlargement(image: tuple[float, float], size: tuple[int, int], pad: int) -> float:
    """The factor of an image (H, W) that with ``pad`` around it is too small for a crop of ``size``; else 1."""
    return max(1.0, *((wanted - 2 * pad) / side for side, wanted in zip(image, size)))


def _between(draw: float, limit: float) -> float:
    return (2 * draw - 1) * limit


def _warp(shape: tuple[int, ...], draws: np.ndarray, preset: Augmentation) -> tuple[np.ndarray, tuple[int, int]]:
    """The affine map (2, 3) of the image to its warped self, centre to centre, and the (height, width) of that."""
    rows, cols = shape
    shear = _between(draws[0], preset.max_shear_ratio)
    angle = int(draws[1] * (2 * preset.max_rotate_angle + 1)) - preset.max_rotate_angle
    a, b = cos(radians(angle)), sin(radians(angle))
    scale = preset.min_random_scale + draws[2] * (preset.max_random_scale - preset.min_random_scale)
    ratio = 1 + _between(draws[3], preset.max_aspect_ratio)
    high = 2 * scale / (1 + ratio)
    wide = ratio * high
    linear = np.array([[high * a - shear * b * wide, high * b + shear * a * wide], [-b * wide, a * wide]])
    new_width, new_height = scale * cols, scale * rows
    shift = (np.array([new_width, new_height]) - linear @ (cols, rows)) / 2
    return np.column_stack([linear, shift]), (max(1, int(new_height)), max(1, int(new_width)))


def _warped_crop(
    image: np.ndarray, matrix: np.ndarray, whole: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """The part of the warped image behind ``corner`` (top, left), without warping the rest."""
    (new_height, new_width), (top, left), (height, width) = whole, corner, size
    moved = matrix.copy()
    moved[:, 2] -= left, top
    crop = cv2.warpAffine(
        image, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(FILL,) * 3
    )
    if top < 0 or left < 0 or top + height > new_height or left + width > new_width:  # the padding hides what is behind
        inside = crop[max(0, -top) : new_height - top, max(0, -left) : new_width - left].copy()
        crop[:] = FILL
        crop[max(0, -top) : new_height - top, max(0, -left) : new_width - left] = inside
    return crop


def _plain_crop(image: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The part of the image behind ``corner`` (top, left), FILL where it reaches beyond the image."""
    (top, left), (height, width) = corner, size
    inside = image[max(0, top) : top + height, max(0, left) : left + width]
    if inside.shape[:2] == size:
        return inside
    crop = np.full((height, width, 3), FILL, np.uint8)
    y, x = max(0, -top), max(0, -left)
    crop[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return crop


def _shift_colours(crop: np.ndarray, draws: np.ndarray, preset: Augmentation) -> np.ndarray:
    """Hue, lightness and saturation shifted, each within its range (OpenCV's hue ends at 180): BGR to RGB.

    As in MXNet, a shift is a mean of two draws, one four times the other, so that extremes are rare.
    """
    limits = (preset.random_h, preset.random_l, preset.random_s)
    means = (draws[7:10] + 4 * draws[10:13]) / 5
    shifts = [int(_between(mean, limit)) for mean, limit in zip(means, limits)]
    table = np.clip(np.arange(256)[:, None] + shifts, 0, (180, 255, 255)).astype(np.uint8)
    hls = cv2.LUT(cv2.cvtColor(crop, cv2.COLOR_BGR2HLS), table.reshape(1, 256, 3))
    return cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)
