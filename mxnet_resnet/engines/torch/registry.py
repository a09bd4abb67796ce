"""The residual units of this engine, by the names that plans know them by (engines/registry.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from mxnet_resnet.engines import registry
from mxnet_resnet.plans.architecture import Architecture

BLOCKS: dict[str, type[nn.Module]] = {}

Block = TypeVar("Block", bound=type[nn.Module])


def register(name: str) -> Callable[[Block], Block]:
    """Make a class of units one that plans can name. Raises UserError where another class has the name."""
    return registry.register(BLOCKS, name)


def find_block(name: str) -> type[nn.Module]:
    """The class of units registered under a name. Raises UserError, which names those there are."""
    return registry.find_block(BLOCKS, name)


def choose_block(plan: Architecture) -> Callable[..., nn.Module]:
    """What makes the units of a plan. Raises UserError as find_block does."""
    return registry.choose_block(BLOCKS, plan)
