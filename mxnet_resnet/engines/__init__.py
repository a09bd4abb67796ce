"""Who computes: a contract (base.py), and the engines that keep it, each the only room that imports its framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mxnet_resnet.engines.base import Engine


def choose(name: str = "mxnet") -> Engine:
    """The engine of that name. Raises UserError where its framework is not there."""
    from mxnet_resnet.engines.mxnet.engine import MXNetEngine

    return {"mxnet": MXNetEngine}[name]()
