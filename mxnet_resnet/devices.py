"""Which devices a command computes on."""

from __future__ import annotations

import mxnet as mx

from mxnet_resnet.compat import gpu_refusal
from mxnet_resnet.errors import UserError


def choose(gpus: list[int] | None) -> list[mx.Context]:
    """The devices for ``--gpus``: those GPUs, or where None were asked for, GPU 0 if it can serve, else the CPU.

    An empty list asks for the CPU. Raises UserError for a GPU that cannot serve.
    """
    if gpus is None:
        return [mx.cpu() if gpu_refusal(0) else mx.gpu(0)]
    for index in gpus:
        refusal = gpu_refusal(index)
        if refusal:
            raise UserError(refusal)
    return [mx.gpu(index) for index in gpus] or [mx.cpu()]
