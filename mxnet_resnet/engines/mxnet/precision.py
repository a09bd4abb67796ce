"""Training in bfloat16 and float16: weights, statistics and their updates stay float32."""

from __future__ import annotations

from collections.abc import Iterable

import mxnet as mx
from mxnet.contrib import amp

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import compat
from mxnet_resnet.runs.graph import IMAGES

# As in mxnet.contrib.amp, after Micikevicius et al., arXiv 1710.03740, section 3.2.
FIRST_SCALE = 2.0**16
LARGEST_SCALE = 2.0**24
STEPS_BEFORE_DOUBLING = 2000
ARRAYS_A_CHECK = 200


def check_dtype(dtype: str, contexts: list[mx.Context]) -> None:
    """Raise UserError where the devices cannot compute in ``dtype``."""
    on_gpu = contexts[0].device_type == "gpu"
    if dtype == "float16" and not on_gpu:
        raise UserError("--dtype float16 needs a GPU: on the CPU take bfloat16 or float32")
    if dtype == "bfloat16" and on_gpu:
        raise UserError("MXNet 1.9.1 computes bfloat16 on the CPU alone: on a GPU take --dtype float16 or float32")
    if dtype == "bfloat16" and not compat.has_bfloat16():
        raise UserError("--dtype bfloat16 needs a CPU with AVX512-BF16, which this one has not: take float32")


def lower(symbol: mx.sym.Symbol, dtype: str) -> mx.sym.Symbol:
    """``symbol`` with casts, so that convolutions and the classifier compute in ``dtype``; inputs stay float32."""
    if dtype == "float32":
        return symbol
    inputs = [name for name in symbol.list_arguments() if name == IMAGES or name.endswith("label")]
    return amp.convert_symbol(symbol, target_dtype=dtype, data_names=inputs)


def finite(arrays: Iterable[mx.nd.NDArray]) -> bool:
    """Whether all values of arrays on one device are finite."""
    arrays = list(arrays)
    result = mx.nd.ones(1, arrays[0].context)
    for begin in range(0, len(arrays), ARRAYS_A_CHECK):
        some = arrays[begin : begin + ARRAYS_A_CHECK]
        mx.nd.multi_all_finite(*some, num_arrays=len(some), init_output=False, out=result)
    return bool(result.asscalar())


class LossScaler:
    """The factor on the loss that keeps gradients inside float16: halved at an overflow, doubled after a good while."""

    def __init__(self, scale: float = FIRST_SCALE, steps: int = 0):
        self.scale, self.steps = scale, steps

    def good(self, gradients_finite: bool) -> bool:
        """Adapt to a step; whether its gradients may be used."""
        self.steps = self.steps + 1 if gradients_finite else 0
        if not gradients_finite:
            self.scale = max(self.scale / 2, 1.0)
        elif self.steps == STEPS_BEFORE_DOUBLING:
            self.scale, self.steps = min(self.scale * 2, LARGEST_SCALE), 0
        return gradients_finite
