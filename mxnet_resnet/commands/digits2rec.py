"""Write the UCI handwritten digits as records: 1,797 real images, a first data set that needs no download.

Scikit-learn carries them as 8x8 images of 17 grey levels (UCI Machine Learning Repository, "Optical Recognition of
Handwritten Digits", test part). They become 32x32 RGB PNGs, split 80/20 with the same share of each digit in both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.digits import write_split


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
    for name, numbers in (("train", train), ("val", val)):
        path = write_split(arguments.out, name, numbers, digits.images, digits.target)
        print(f"{len(numbers)} images in {path}")
    with replacing(arguments.out / "synset.txt") as (synset,):
        synset.write_text("".join(f"digit {label}\n" for label in range(10)))
