"""RecordIO files to batches of images: RGB, float32, 0..255, (N, C, H, W)."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.errors import UserError
from mxnet_resnet.preprocess import ImageShape, decode, evaluation_transform
from mxnet_resnet.recordio import Record, scan, walk


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


# Random crop and mirror are in each level. 0.533 is 256/480, hue 0.4 of 90, saturation and lightness 0.4 of 127.
AUGMENTATION_LEVELS = {
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


def augmentation(level: int, small_images: bool) -> Augmentation:
    """The preset of ``level``; small images, which are stored at the net's input size, are not scaled down."""
    preset = AUGMENTATION_LEVELS[level]
    return dataclasses.replace(preset, min_random_scale=1.0) if small_images else preset


@dataclass(frozen=True)
class TrainingRecords:
    """Training batches, shuffled and augmented; the order and the augmentation are a function of (seed, epoch, part).

    Attributes:
        path: the .rec file.
        image_shape: (C, H, W) of the crops.
        batch_size: images a batch.
        augmentation: a value of AUGMENTATION_LEVELS.
        pad: pixels of 127 put around an image before it is cropped.
        mirror: mirror half of the images.
        seed: of the run.
        part, num_parts: this worker's share of the records.
    """

    path: Path
    image_shape: ImageShape
    batch_size: int
    augmentation: Augmentation
    pad: int
    mirror: bool
    seed: int
    part: int = 0
    num_parts: int = 1

    def epoch(self, number: int) -> Iterator[mx.io.DataBatch]:
        """The batches of epoch ``number``; the last is filled up with images from the beginning of the epoch."""
        try:
            yield from self._iterator(number)
        except mx.base.MXNetError as error:
            scan(self.path, decoding=True)  # names the record, which MXNet does not
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{self.path}: MXNet cannot read it ({reason})") from error

    def _iterator(self, epoch: int) -> mx.io.DataIter:
        seed = int(np.random.SeedSequence([self.seed, epoch, self.part]).generate_state(1)[0] >> 1)
        return mx.io.ImageRecordIter(
            path_imgrec=str(self.path),
            data_name="data",
            label_name="softmax_label",
            data_shape=self.image_shape,
            batch_size=self.batch_size,
            pad=self.pad,
            fill_value=127,
            rand_crop=True,
            rand_mirror=self.mirror,
            shuffle=True,
            seed=seed,
            seed_aug=seed,
            num_parts=self.num_parts,
            part_index=self.part,
            verbose=False,
            **dataclasses.asdict(self.augmentation),
        )


def validation_batches(path: Path, image_shape: ImageShape, batch_size: int) -> Iterator[mx.io.DataBatch]:
    """Every record once, in order, through the evaluation transform; ``batch.pad`` counts the last batch's filling.

    Raises UserError for an image that does not decode. (ImageRecordIter with ``resize`` divides by zero there.)
    """

    def load(record: Record) -> np.ndarray:
        image = decode(record.image)
        if image is None:
            raise UserError(f"{record.where}: the image does not decode")
        return evaluation_transform(image, image_shape)

    records = walk(path)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        loading: deque[tuple[list[float], list[Future]]] = deque()
        while True:
            chunk = list(islice(records, batch_size))
            if chunk:
                loading.append(([record.label for record in chunk], [pool.submit(load, record) for record in chunk]))
            if not loading:
                return
            if len(loading) > 1 or not chunk:  # one batch is loaded while the one before is computed on
                labels, images = loading.popleft()
                yield _batch([image.result() for image in images], labels, batch_size)


def _batch(images: list[np.ndarray], labels: list[float], size: int) -> mx.io.DataBatch:
    """A batch of ``size``, filled up with the last image."""
    pad = size - len(images)
    data = mx.nd.array(np.stack(images + images[-1:] * pad))
    return mx.io.DataBatch([data], [mx.nd.array(labels + labels[-1:] * pad)], pad=pad)
