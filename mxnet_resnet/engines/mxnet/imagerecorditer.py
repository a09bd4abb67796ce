"""Training records read by MXNet's ImageRecordIter.

It draws from the distributions of our own reader, but shuffles within its chunks, and decodes on half of the cores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.augment import FILL
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.data.recordio import scan


def read_epoch(records: TrainingRecords, number: int) -> Iterator[Batch]:
    """The batches of epoch ``number``. Raises UserError for an image that does not decode."""
    try:
        for batch in _image_record_iter(records, number):
            images, labels = batch.data[0].astype("uint8").asnumpy(), batch.label[0].asnumpy()
            yield Batch(images, labels, len(images) - batch.pad)
    except mx.base.MXNetError as error:
        scan(records.path, decoding=True)  # names the record, which MXNet does not
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{records.path}: MXNet cannot read it ({reason})") from error


def _image_record_iter(records: TrainingRecords, epoch: int) -> mx.io.DataIter:
    seed = int(np.random.SeedSequence([records.seed, epoch, records.part]).generate_state(1)[0] >> 1)
    return mx.io.ImageRecordIter(
        path_imgrec=str(records.path),
        data_name="data",
        label_name="softmax_label",
        data_shape=records.image_shape,
        batch_size=records.batch_size,
        pad=records.pad,
        fill_value=FILL,
        rand_crop=True,
        rand_mirror=records.mirror,
        shuffle=True,
        seed=seed,
        seed_aug=seed,
        num_parts=records.num_parts,
        part_index=records.part,
        preprocess_threads=records.threads,
        verbose=False,
        **dataclasses.asdict(records.augmentation),
    )
