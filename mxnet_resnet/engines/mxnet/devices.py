"""Which devices a command computes on."""

from __future__ import annotations

import mxnet as mx
from mxnet.executor_manager import _split_input_slice

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines import gpus as nvidia
from mxnet_resnet.engines.gpus import Refusal


def choose(gpus: list[int] | None, cpus: int | None = None) -> tuple[list[mx.Context], str]:
    """The devices for ``--gpus``: those GPUs, or where None were asked for, GPU 0 if it can serve, else the CPU.

    An empty list asks for the CPU, ``cpus`` for as many devices that share its cores. The second value says in a line
    what was chosen and why. Raises UserError for a GPU that cannot serve.
    """
    if cpus:
        return [mx.cpu(index) for index in range(cpus)], f"Computing on the CPU as {cpus} devices, as asked"
    if gpus is None:
        refusal = find_refusal(0)
        if refusal:
            return [mx.cpu()], f"Computing on the CPU: {refusal.why}; {refusal.advice}"
        return [mx.gpu(0)], "Computing on GPU 0"
    for index in gpus:
        if refusal := find_refusal(index):
            raise UserError(f"{refusal.why}: {refusal.advice}")
    if not gpus:
        return [mx.cpu()], "Computing on the CPU, as asked"
    return [mx.gpu(index) for index in gpus], f"Computing on GPU {', '.join(map(str, gpus))}"


def find_refusal(index: int) -> Refusal | None:
    """Why GPU ``index`` cannot serve this MXNet, or None where it can."""
    if not mx.runtime.Features().is_enabled("CUDA"):
        return nvidia.refuse_any(index)
    return nvidia.find_refusal(index)


def shares(batch_size: int, devices: int) -> list[int]:
    """The images of a batch that each device gets, as MXNet deals them. Raises UserError where one would get none."""
    try:
        slices = _split_input_slice(batch_size, [1] * devices)
    except ValueError as error:
        raise UserError(
            f"--batch-size {batch_size} cannot be dealt to {devices} devices: take a multiple of {devices}"
        ) from error
    return [part.stop - part.start for part in slices]
