"""Write the UCI handwritten digits as records: 1,797 real images, a first data set that needs no download.

Scikit-learn carries them as 8x8 images of 17 grey levels (UCI Machine Learning Repository, "Optical Recognition of
Handwritten Digits", test part). They become 32x32 RGB PNGs, split 80/20 with the same share of each digit in both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.writer import RecordWriter

SIZE = 32


def enlarge(digit: np.ndarray) -> np.ndarray:
    """A digit (8, 8), 0..16, as an image (32, 32, 3), uint8, 0..255."""
    grey = cv2.resize(digit.astype(np.float32) * (255 / 16), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(grey.clip(0, 255).round().astype(np.uint8), cv2.COLOR_GRAY2RGB)


def write_split(out: Path, name: str, numbers: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
    """Write ``digits_{name}.rec``, ``.idx`` and ``.lst``, and the images themselves to ``out/name/``."""
    prefix = out / f"digits_{name}"
    try:
        with RecordWriter(prefix) as writer:
            shutil.rmtree(out / name, ignore_errors=True)  # images of another split
            (out / name).mkdir()
            for number in map(int, numbers):
                file = f"{name}/{number:04d}-{labels[number]}.png"
                png = cv2.imencode(".png", enlarge(images[number]))[1].tobytes()
                (out / file).write_bytes(png)
                writer.write(number, float(labels[number]), png, file)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
    print(f"{len(numbers)} images in {prefix}.rec")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/digits"), help="folder for the records")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the split and of the order of the records")
    arguments = parser.parse_args()

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, val = train_test_split(
        np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=arguments.seed
    )
    write_split(arguments.out, "train", train, digits.images, digits.target)
    write_split(arguments.out, "val", val, digits.images, digits.target)
    with replacing(arguments.out / "synset.txt") as (synset,):
        synset.write_text("".join(f"digit {label}\n" for label in range(10)))
