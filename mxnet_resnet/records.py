"""RecordIO files to batches of images: RGB, float32, 0..255, (N, C, H, W)."""

from __future__ import annotations

import dataclasses
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.errors import UserError
from mxnet_resnet.preprocess import ImageShape, decode, short_side

# dmlc-core, include/dmlc/recordio.h: magic, then 3 bits of continuation flag and 29 of length, then the data to the
# next multiple of 4. MXNet puts an image header before the data: flag, label, two ids.
MAGIC = 0xCED7230A
RECORD_HEADER = struct.Struct("<II")
IMAGE_HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST_PART = 0, 1


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
class Summary:
    """What a record file holds."""

    count: int
    min_label: float
    max_label: float


def scan(path: Path) -> Summary:
    """Walk over the headers of a record file. Raises UserError where it is missing, empty, cut short or damaged."""
    count, low, high = 0, float("inf"), float("-inf")
    for label, _, _ in _records(path):
        count += 1
        low, high = min(low, label), max(high, label)
    if not count:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    return Summary(count, low, high)


def _records(path: Path) -> Iterator[tuple[float, int, bytes]]:
    """The (label, byte offset, encoded image) of each record, in the order of the file."""
    if not path.is_file():
        raise UserError(f"there is no record file {path}: make it, with tools/ or im2rec, or check --data-dir")
    if not path.stat().st_size:
        raise UserError(f"{path} holds no records: make it again, with tools/ or im2rec")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset, number = 0, 0
        while offset < len(data):
            where = f"{path}, record {number}, byte {offset}"
            if offset + RECORD_HEADER.size > len(data):
                raise UserError(f"{where}: the file ends inside of a record header")
            magic, word = RECORD_HEADER.unpack_from(data, offset)
            flag, length = word >> 29, word & ((1 << 29) - 1)
            start = offset + RECORD_HEADER.size
            if magic != MAGIC:
                raise UserError(f"{where}: {magic:#010x} stands where {MAGIC:#010x} should: the file is damaged")
            if start + length > len(data):
                raise UserError(f"{where}: the record should have {length} bytes, and the file ends before")
            if flag in (WHOLE, FIRST_PART):
                if length < IMAGE_HEADER.size:
                    raise UserError(f"{where}: {length} bytes are too short for an image record")
                labels, label, _, _ = IMAGE_HEADER.unpack_from(data, start)
                if labels:
                    (label,) = struct.unpack_from("<f", data, start + IMAGE_HEADER.size)
                yield label, offset, data[start + IMAGE_HEADER.size + 4 * labels : start + length]
                number += 1
            offset = start + (length + 3) // 4 * 4


def check_labels(path: Path, summary: Summary, num_classes: int) -> None:
    """Raise UserError unless all labels are classes of a net that has ``num_classes``."""
    if summary.min_label < 0 or summary.max_label >= num_classes:
        raise UserError(
            f"{path} has labels from {summary.min_label:g} to {summary.max_label:g}, and --num-classes {num_classes} "
            f"allows 0 to {num_classes - 1}"
        )


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
        seed = int(np.random.SeedSequence([self.seed, number, self.part]).generate_state(1)[0] >> 1)
        iterator = mx.io.ImageRecordIter(
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
        return _batches(iterator, self.path)


def validation_batches(path: Path, image_shape: ImageShape, batch_size: int) -> Iterator[mx.io.DataBatch]:
    """Every record once, in order, through the evaluation transform; ``batch.pad`` counts the last batch's filling.

    ``batch_size`` may be no larger than the number of records.
    """
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(path),
        data_name="data",
        label_name="softmax_label",
        data_shape=image_shape,
        resize=short_side(image_shape),
        batch_size=batch_size,
        shuffle=False,
        verbose=False,
    )
    return _batches(iterator, path)


def _batches(iterator: mx.io.DataIter, path: Path) -> Iterator[mx.io.DataBatch]:
    try:
        yield from iterator
    except mx.base.MXNetError as error:
        raise UserError(_explain(error, path)) from error


def _explain(error: mx.base.MXNetError, path: Path) -> str:
    """Find the record that MXNet's reader stumbled over, which it does not tell."""
    for number, (_, offset, image) in enumerate(_records(path)):
        if decode(image) is None:
            return f"{path}, record {number}, byte {offset}: the image does not decode"
    reason = str(error).strip().splitlines()[-1]
    return f"{path}: MXNet cannot read it ({reason})"
