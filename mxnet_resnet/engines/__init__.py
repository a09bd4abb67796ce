"""Who computes: a contract (base.py), and the engines that keep it, each the only room that imports its framework."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mxnet_resnet.base import workers
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import NO_TORCH

if TYPE_CHECKING:
    from mxnet_resnet.engines.base import Engine

ENGINES = ("auto", "mxnet", "torch")
BY_TORCHRUN = "Computing with PyTorch, since torchrun started this process"


def choose(name: str = "auto", gpus: Sequence[int] | None = None, cpus: int | None = None) -> Engine:
    """The engine of that name, for the devices that are asked for as in `Engine.choose_devices`.

    ``auto`` is MXNet where it can serve these devices, else PyTorch, whose ``reason`` then says why; in a worker that
    torchrun started it is PyTorch. No framework is imported for MXNet, whose process has to be made ready before;
    PyTorch is, where its GPUs have to be looked at.

    Raises UserError for a name that is none, for PyTorch where it is not installed, and for GPUs that serve neither.
    """
    if name == "auto":
        return _choose_for(gpus, cpus)
    if name not in ENGINES:
        raise UserError(f"there is no engine {name!r}: the engines are {', '.join(ENGINES)}")
    if name == "mxnet":
        return _open_mxnet()
    if not is_installed("torch"):
        raise UserError(NO_TORCH)
    return _open_torch()


def is_installed(framework: str) -> bool:
    """Whether a framework can be imported, which is not done."""
    return find_spec(framework) is not None


def _choose_for(gpus: Sequence[int] | None, cpus: int | None) -> Engine:
    """MXNet if it can serve these devices, or if PyTorch cannot either and the CPU will do; else PyTorch."""
    if workers.is_launched():
        return _open_torch(os.environ.get(workers.REASON, BY_TORCHRUN))
    if not is_installed("torch"):
        return _open_mxnet()
    if not is_installed("mxnet"):
        return _open_torch("Computing with PyTorch, since MXNet is not installed")
    if cpus or (gpus is not None and not gpus):
        return _open_mxnet()
    from mxnet_resnet.engines.gpus import find_refusal, list_capabilities

    if gpus is None and not list_capabilities():
        return _open_mxnet()
    wanted = [0] if gpus is None else gpus
    refusal = next(filter(None, map(find_refusal, wanted)), None)
    if refusal is None:
        return _open_mxnet()
    engine = _open_torch(f"Computing with PyTorch, since {refusal.why}")
    try:
        engine.load()
        engine.choose_devices(wanted, None)
    except UserError as error:
        if gpus is None:
            return _open_mxnet()
        raise UserError(f"MXNet cannot serve, since {refusal.why}; nor can PyTorch: {error}") from error
    return engine


def _open_mxnet() -> Engine:
    from mxnet_resnet.engines.mxnet.engine import MXNetEngine

    return MXNetEngine()


def _open_torch(reason: str = "") -> Engine:
    from mxnet_resnet.engines.torch.engine import TorchEngine

    return TorchEngine(reason)
