"""Some images with their labels, as all engines take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Images and labels, of which the first ``count`` are of the data; the rest fills the batch up.

    Attributes:
        images: (N, 3, H, W), RGB, 0..255: uint8 as they are read, float32 where they are mixed.
        labels: classes (N,), or distributions over them (N, classes), float32.
        count: from 1 to N.
    """

    images: np.ndarray
    labels: np.ndarray
    count: int  # type: ignore[assignment]  # tuple's own method of this name is of no use here
