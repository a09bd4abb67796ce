"""Batches of the data as MXNet's modules take them."""

from __future__ import annotations

import mxnet as mx

from mxnet_resnet.data.batch import Batch


def as_data_batch(batch: Batch, context: mx.Context | None = None) -> mx.io.DataBatch:
    """A batch in MXNet's form, on the same memory, which can no longer be written to through NumPy.

    A Module casts images of uint8 as it copies them, but not from the CPU to a GPU: for a ``context`` that is one they
    are brought there as they are, and cast there.
    """
    images, labels = (mx.nd.from_numpy(array, zero_copy=True) for array in (batch.images, batch.labels))
    if context is not None and context.device_type == "gpu":
        images = images.as_in_context(context).astype("float32", copy=False)
    return mx.io.DataBatch([images], [labels], pad=len(batch.images) - batch.count)
