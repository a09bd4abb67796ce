"""Batches of the data as MXNet's modules take them."""

from __future__ import annotations

import mxnet as mx

from mxnet_resnet.data.batch import Batch


def as_data_batch(batch: Batch) -> mx.io.DataBatch:
    """A batch in MXNet's form, on the same memory, which can no longer be written to through NumPy."""
    images, labels = (mx.nd.from_numpy(array, zero_copy=True) for array in (batch.images, batch.labels))
    return mx.io.DataBatch([images], [labels], pad=len(batch.images) - batch.count)
