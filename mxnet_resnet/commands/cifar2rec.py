"""Make lossless records of CIFAR-10 or CIFAR-100 from the official archive, binary or Python version.

    python tools/cifar2rec.py --dataset cifar10 --source cifar-10-binary.tar.gz
    python tools/cifar2rec.py --dataset cifar100 --download

writes cifar10_train.rec (50,000 images, shuffled), cifar10_val.rec (10,000), with .idx and .lst each, and synset.txt.
--source also takes another tar file, or a folder: batches are looked for inside, and in the tar files inside.
A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.cifar import DATASETS, CifarImages, download, write_records
from mxnet_resnet.data.cifarfiles import load


def write_split(prefix: Path, images: CifarImages, order: np.ndarray, workers: int) -> None:
    """Write the records of a split, and say how many they are."""
    write_records(prefix, images, order, workers)
    print(f"{prefix}.rec: {len(order):,} records of {len(np.unique(images.labels))} classes")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--source", type=Path, help="the archive, or a folder with it or with what was in it")
    source.add_argument("--download", action="store_true", help="get the binary version from its official place")
    parser.add_argument("--out", type=Path, help="folder for the records (data/cifar10 or data/cifar100)")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the order of the training records")
    parser.add_argument("--num-workers", type=integer(1, 1024), default=cores(), help="threads")
    arguments = parser.parse_args()
    dataset = DATASETS[arguments.dataset]
    out = arguments.out or Path("data", arguments.dataset)

    train, val = load(download(dataset, out) if arguments.download else arguments.source, dataset)
    order = np.random.RandomState(arguments.seed).permutation(len(train.labels))
    write_split(out / f"{arguments.dataset}_train", train, order, arguments.num_workers)
    write_split(out / f"{arguments.dataset}_val", val, np.arange(len(val.labels)), arguments.num_workers)
    with replacing(out / "synset.txt") as (synset,):
        synset.write_text("".join(f"{name}\n" for name in dataset.classes))
