"""Errors of a net on records: top-1 and top-5, by class, and which classes are taken for which."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data import recordio
from mxnet_resnet.data.transform import ImageShape, crops, decode
from mxnet_resnet.engines.mxnet.predictor import Classifier
from mxnet_resnet.runs import ledger

TOP = 5
AHEAD = 2  # batches that are read while one is computed on


@dataclass(frozen=True)
class Result:
    """What a net says of each record.

    Attributes:
        labels: true classes (N,).
        found: the best classes (N, 5), the best first; fewer where there are not so many.
        classes: how many the net tells apart.
    """

    labels: np.ndarray = field(repr=False)
    found: np.ndarray = field(repr=False)
    classes: int

    @property
    def wrong(self) -> np.ndarray:
        """Whether the best class of each record is wrong (N,), bool."""
        return self.found[:, 0] != self.labels

    @property
    def top1(self) -> float:
        """Top-1 error in percent."""
        return 100 * float(self.wrong.mean())

    @property
    def top5(self) -> float:
        """Top-5 error in percent."""
        return 100 * float((self.found != self.labels[:, None]).all(axis=1).mean())

    def per_class(self) -> list[tuple[int, int, float]]:
        """Of each class that has records: its number, its records, and its top-1 error in percent."""
        counts = np.bincount(self.labels, minlength=self.classes)
        wrong = np.bincount(self.labels[self.wrong], minlength=self.classes)
        return [(label, int(counts[label]), 100 * wrong[label] / counts[label]) for label in np.flatnonzero(counts)]

    def confusions(self, number: int) -> list[tuple[int, int, int]]:
        """The ``number`` most frequent errors: the true class, the one it is taken for, and how often."""
        pairs = Counter(zip(self.labels[self.wrong].tolist(), self.found[self.wrong, 0].tolist()))
        most = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:number]
        return [(true, taken, count) for (true, taken), count in most]

    def as_json(self, names: Sequence[str] | None = None, confusions: int = 20) -> dict[str, object]:
        """All of this for a file; ``names`` are of the classes."""
        names = names or [f"class {number}" for number in range(self.classes)]
        return {
            "records": len(self.labels),
            "wrong": int(self.wrong.sum()),
            "top-1 error, %": self.top1,
            "top-5 error, %": self.top5,
            "classes": [
                {"class": int(label), "name": names[label], "records": count, "top-1 error, %": error}
                for label, count, error in self.per_class()
            ],
            "confusions": [
                {"true": names[true], "taken for": names[taken], "records": count}
                for true, taken, count in self.confusions(confusions)
            ],
        }


def evaluate(net: Classifier, path: Path, crop: str = "center", threads: int | None = None) -> Result:
    """Classify each record once; ``crop`` is one of preprocess.CROPS.

    Raises UserError where the file is missing or damaged, an image does not decode, or a label is no class of the net.
    """
    summary = recordio.scan(path)
    classes = net.net.classes
    recordio.check_labels(path, summary, classes)
    images_a_batch = max(1, net.batch_size // (10 if crop == "ten" else 1))
    labels, found = [], []
    batches = _batches(recordio.RecordFile(path, summary.offsets), net.net.image_shape, crop, images_a_batch, threads)
    for seen, batch_labels in progress(batches, "Evaluating", -(-summary.count // images_a_batch), unit="batches"):
        probabilities = net.probabilities(seen)
        found.append(np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP])
        labels.append(batch_labels)
    return Result(np.concatenate(labels), np.concatenate(found), classes)


def of_options(options: argparse.Namespace) -> Result:
    """What ``train_resnet.py --eval-only`` measures: a checkpoint of the options on their validation records.

    It is that after ``options.model_load_epoch`` epochs, or the latest one, on the first device, in float32 or on a CPU
    in bfloat16. Raises UserError.
    """
    from mxnet_resnet.engines.mxnet import devices, precision
    from mxnet_resnet.runs import checkpoint
    from mxnet_resnet.use import nets

    prefix, epoch = options.model_prefix, options.model_load_epoch
    if epoch is None:
        epoch = "latest" if ledger.latest(prefix) else checkpoint.last_epoch(prefix)
    net = nets.load(prefix, epoch, options.image_shape)
    for note in net.notes:
        print(note, file=sys.stderr)
    (context, *_), _ = devices.choose(options.gpus, options.cpus)
    precision.check(options.dtype, [context])
    classifier = Classifier(net, context, options.batch_size, options.dtype)
    return evaluate(classifier, options.data_val, threads=options.data_nthreads)


def sentence(result: Result) -> str:
    """The errors in a line."""
    wrong = int(result.wrong.sum())
    top5 = f", top-5 error {result.top5:.2f}%" if result.classes > TOP else ""
    return f"top-1 error {result.top1:.2f}%{top5}: {wrong:,} of {len(result.labels):,} records wrong"


def _batches(
    records: recordio.RecordFile, image_shape: ImageShape, crop: str, size: int, threads: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The crops (N, K, H, W, 3) and the labels (N,) of ``size`` records at a time, in their order."""

    def load(number: int) -> tuple[np.ndarray, int]:
        record = records.read(number)
        image = decode(record.image)
        if image is None:
            raise UserError(f"{record.where}: the image does not decode")
        try:
            return crops(image, image_shape, crop), int(record.label)
        except UserError as error:
            raise UserError(f"{record.where}: {error}") from error

    cv2.setNumThreads(1)  # the images are what is done in parallel
    numbers = range(len(records.offsets))
    with closing(compute_ahead(load, numbers, threads or cores(), AHEAD * size)) as loaded:
        while some := list(islice(loaded, size)):
            images, labels = zip(*(result for _, result in some))
            yield np.stack(images), np.array(labels)
