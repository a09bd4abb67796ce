"""Images through a net, some at a time; what cannot be read is reported and passed over."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.decoding import silence_opencv
from mxnet_resnet.data.inputs import Input
from mxnet_resnet.data.transform import crops, thumbnail
from mxnet_resnet.use.classifier import Classifier


class Seen(NamedTuple):
    """What the net sees of an image, (K, H, W, 3), RGB, uint8, its probabilities (classes,), and a thumbnail."""

    source: Input
    crops: np.ndarray
    thumbnail: np.ndarray | None
    probabilities: np.ndarray


@dataclass
class Tally:
    """How many images there were."""

    good: int = 0
    bad: int = 0

    @property
    def status(self) -> int:
        """Of the command: 0, 1 where some images could not be used, 2 where none could."""
        return 0 if not self.bad else 1 if self.good else 2

    def tell(self) -> None:
        """Say on standard error how many images were passed over, where some were among others."""
        if self.bad and self.bad + self.good > 1:
            print(f"{self.bad:,} passed over, {self.good:,} classified", file=sys.stderr)


def classify(
    images: Iterable[Input], classifier: Classifier, crop: str, tally: Tally, thumbnails: bool = False
) -> Iterator[Seen]:
    """Each image that can be read, with its probabilities (classes,), in their order; ``tally`` is kept.

    ``crop`` is one of transform.CROPS. Each image that cannot be read is a sentence on standard error.
    """
    shape, size = classifier.net.image_shape, classifier.images_at_a_time(crop)

    def read(source: Input) -> Seen | UserError:
        try:
            image = source.read()
            # Not the image: a batch of 32 photographs of 12 megapixels would take 1.2 GB.
            small = thumbnail(image) if thumbnails else None
            return Seen(source, _crop(source, image, shape, crop), small, np.empty(0))
        except UserError as error:
            return error

    silence_opencv()
    cv2.setNumThreads(1)  # the images are what is read in parallel
    with closing(compute_ahead(read, images, cores())) as results:
        while some := list(islice(results, size)):
            seen = []
            for _, result in some:
                if isinstance(result, UserError):
                    tally.bad += 1
                    print(f"error: {result}", file=sys.stderr)
                else:
                    seen.append(result)
            if seen:
                tally.good += len(seen)
                found = classifier.probabilities(np.stack([one.crops for one in seen]))
                yield from (one._replace(probabilities=row) for one, row in zip(seen, found))


def _crop(source: Input, image: np.ndarray, shape: tuple[int, int, int], crop: str) -> np.ndarray:
    try:
        return crops(image, shape, crop)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from error
