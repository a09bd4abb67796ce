"""The residual units of this engine, by the names that plans know them by (engines/registry.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mxnet.gluon import HybridBlock

from mxnet_resnet.engines import registry
from mxnet_resnet.plans.architecture import Architecture

BLOCKS: dict[str, type[HybridBlock]] = {}

Block = TypeVar("Block", bound=type[HybridBlock])


def register(name: str) -> Callable[[Block], Block]:
    """Make a class of units one that plans can name. Raises UserError where another class has the name."""
    return registry.register(BLOCKS, name)


def find_block(name: str) -> type[HybridBlock]:
    """The class of units registered under a name. Raises UserError, which names those there are."""
    return registry.find_block(BLOCKS, name)


def choose_block(plan: Architecture) -> Callable[..., HybridBlock]:
    """What makes the units of a plan. Raises UserError as find_block does."""
    return registry.choose_block(BLOCKS, plan)
