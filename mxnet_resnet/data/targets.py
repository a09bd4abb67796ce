"""Labels as distributions over the classes, and mixup (Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

import mxnet as mx
import numpy as np


def distributions(labels: mx.nd.NDArray, classes: int, smoothing: float) -> mx.nd.NDArray:
    """Labels (N,) as (N, classes), of which ``smoothing`` is shared evenly by the other classes."""
    return labels.one_hot(classes, on_value=1 - smoothing, off_value=smoothing / max(classes - 1, 1))


def mixed(
    batch: mx.io.DataBatch, alpha: float, classes: int, smoothing: float, place: tuple[int, int, int]
) -> mx.io.DataBatch:
    """Each image (N, C, H, W) mixed with that at the other end of the batch, and labels (N, classes) of these shares.

    The share is drawn from Beta(alpha, alpha) as a function of ``place``, the (seed, epoch, batch).
    """
    share = float(np.random.default_rng([*place, 2]).beta(alpha, alpha))
    labels = distributions(batch.label[0], classes, smoothing)
    return mx.io.DataBatch([_mix(batch.data[0], share)], [_mix(labels, share)], pad=batch.pad)


def _mix(array: mx.nd.NDArray, share: float) -> mx.nd.NDArray:
    return array * share + array.flip(axis=0) * (1 - share)
