"""Who computes: a contract (base.py), and the engines that keep it, each the only room that imports its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mxnet_resnet.base.errors import UserError

if TYPE_CHECKING:
    from mxnet_resnet.engines.base import Engine

ENGINES = ("mxnet",)


def choose(name: str = "mxnet") -> Engine:
    """The engine of that name, whose framework is loaded when it is first needed. Raises UserError for no engine."""
    if name not in ENGINES:
        raise UserError(f"there is no engine {name!r}: the engines are {', '.join(ENGINES)}")
    from mxnet_resnet.engines.mxnet.engine import MXNetEngine

    return MXNetEngine()
