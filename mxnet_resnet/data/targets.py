"""Labels as distributions over the classes, and mixup (Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

import numpy as np

from mxnet_resnet.data.batch import Batch


def distributions(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """Labels (N,) as (N, classes), float32, of which ``smoothing`` is shared evenly by the other classes."""
    shares = np.full((len(labels), classes), smoothing / max(classes - 1, 1), np.float32)
    shares[np.arange(len(labels)), labels.astype(np.intp)] = 1 - smoothing
    return shares


def mixed(batch: Batch, alpha: float, classes: int, smoothing: float, place: tuple[int, int, int]) -> Batch:
    """Each image mixed with that at the other end of the batch, and labels (N, classes) of these shares.

    The share is drawn from Beta(alpha, alpha) as a function of ``place``, the (seed, epoch, batch).
    """
    share = float(np.random.default_rng([*place, 2]).beta(alpha, alpha))
    labels = distributions(batch.labels, classes, smoothing)
    return Batch(_mix(batch.images, share), _mix(labels, share), batch.count)


def _mix(array: np.ndarray, share: float) -> np.ndarray:
    """``array`` and, along its first axis, its reverse, in these shares, computed in float32."""
    array = array.astype(np.float32, copy=False)
    mix = array * np.float32(share)
    mix += array[::-1] * np.float32(1 - share)
    return mix
