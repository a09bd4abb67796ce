"""Labels as distributions, and mixup (Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

import mxnet as mx
import numpy as np


def mixed(
    batch: mx.io.DataBatch, alpha: float, classes: int, smoothing: float, place: tuple[int, int, int]
) -> mx.io.DataBatch:
    """Each image (N, C, H, W) mixed with that at the other end of the batch, and labels (N, classes) of these shares.

    The share is drawn from Beta(alpha, alpha) as a function of ``place``, the (seed, epoch, batch).
    """
    share = float(np.random.default_rng([*place, 2]).beta(alpha, alpha))
    images, labels = batch.data[0], batch.label[0]
    off = smoothing / (classes - 1)
    targets = labels.one_hot(classes, on_value=1 - smoothing, off_value=off)
    return mx.io.DataBatch([_mix(images, share)], [_mix(targets, share)], pad=batch.pad)


def _mix(array: mx.nd.NDArray, share: float) -> mx.nd.NDArray:
    return array * share + array.flip(axis=0) * (1 - share)
