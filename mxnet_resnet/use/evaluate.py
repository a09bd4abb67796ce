"""Errors of a net on records: top-1 and top-5, by class, and which classes are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.classnames import number_class
from mxnet_resnet.engines.net import require_classes
from mxnet_resnet.use import samples
from mxnet_resnet.use.classifier import Classifier
from mxnet_resnet.use.samples import Sample

TOP = 5


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
        names = names or list(map(number_class, range(self.classes)))
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


def evaluate(
    classifier: Classifier,
    sample: Sample,
    crop: str = "center",
    threads: int | None = None,
    workers: int | None = None,
) -> Result:
    """Classify each record of a sample once; ``crop`` is one of transform.CROPS, ``threads`` or ``workers`` read.

    Raises UserError where the file is damaged, or an image does not decode.
    """
    net = classifier.net
    size = classifier.images_at_a_time(crop)
    labels, found = [], []
    batches = sample.batches(net.image_shape, crop, size, threads, workers)
    for seen, batch_labels in progress(batches, "Evaluating", -(-len(sample.numbers) // size), unit="batches"):
        probabilities = classifier.probabilities(seen)
        found.append(np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP])
        labels.append(batch_labels)
    return Result(np.concatenate(labels), np.concatenate(found), require_classes(net))


def evaluate_records(
    classifier: Classifier,
    path: Path,
    crop: str = "center",
    threads: int | None = None,
    workers: int | None = None,
) -> Result:
    """As `evaluate`, of all records of a file.

    Raises UserError where the file is missing or damaged, an image does not decode, or a label is no class of the net.
    """
    return evaluate(classifier, samples.take_all(path, require_classes(classifier.net)), crop, threads, workers)


def describe(result: Result) -> str:
    """The errors in a line."""
    wrong = int(result.wrong.sum())
    top5 = f", top-5 error {result.top5:.2f}%" if result.classes > TOP else ""
    return f"top-1 error {result.top1:.2f}%{top5}: {wrong:,} of {len(result.labels):,} records wrong"
