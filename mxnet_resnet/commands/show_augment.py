"""Draw what training sees of an image at augmentation levels 1, 2 and 3: `python tools/show_augment.py photo.jpg`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.arguments import Parser, integer, output
from mxnet_resnet.base.files import check_picture, replacing
from mxnet_resnet.data import augment, imagebounds
from mxnet_resnet.data.transform import check_sides, read_image
from mxnet_resnet.runs.ownership import check_no_checkpoint

STORED = {1: 256, 2: 480, 3: 480}  # short side of the records that ImageNet's levels are for
CROP = 224
GAP = 6


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("image", help="the photograph")
    parser.add_argument("--out", type=output, default=Path("augment.png"), help="the picture")
    parser.add_argument("--columns", type=integer(high=50), default=8, help="crops of each level")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the augmentation")
    imagebounds.add_flag(parser)
    arguments = parser.parse_args()
    imagebounds.allow(arguments.max_pixels)

    image = read_image(arguments.image)[:, :, ::-1]
    check_picture(arguments.out)
    check_no_checkpoint(arguments.out)
    picture = cv2.imencode(".png", sheet(image, arguments.columns, arguments.seed))[1]
    with replacing(arguments.out) as (temporary,):
        temporary.write_bytes(picture.tobytes())
    print(f"Levels 1, 2 and 3, a row each: {arguments.out}")


def sheet(image: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """A picture, BGR, of ``columns`` crops of a BGR image for each level, a row a level."""
    random = np.random.default_rng(seed)
    rows = [row(image, level, random.random((columns, augment.DRAWS))) for level in augment.LEVELS]
    return join(rows, axis=0)


def row(image: np.ndarray, level: int, draws: np.ndarray) -> np.ndarray:
    """The crops of one level, side by side."""
    factor = STORED[level] / min(image.shape[:2])
    check_sides([round(side * factor) for side in image.shape[:2]])
    stored = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    crops = [augment.augment(stored, numbers, augment.LEVELS[level], (CROP, CROP)) for numbers in draws]
    return join([crop[:, :, ::-1] for crop in crops], axis=1)


def join(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Pictures joined along an axis, with white between them."""
    widths = [(0, GAP if dimension == axis else 0) for dimension in range(3)]
    return np.concatenate([np.pad(picture, widths, constant_values=255) for picture in pictures], axis=axis)
