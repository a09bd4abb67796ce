"""Arrays over the boundary: NumPy's, which everything else has, and MXNet's."""

from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx
import numpy as np


def to_mxnet(arrays: Mapping[str, np.ndarray]) -> dict[str, mx.nd.NDArray]:
    """Copies of named arrays in MXNet's memory of the CPU, in their own types."""
    return {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}


def to_numpy(arrays: Mapping[str, mx.nd.NDArray]) -> dict[str, np.ndarray]:
    """Copies of named arrays in NumPy; waits until they are computed."""
    return {name: array.asnumpy() for name, array in arrays.items()}
