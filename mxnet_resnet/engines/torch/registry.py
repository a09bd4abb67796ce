"""The names by which plans ask for residual units (architecture.Architecture.block)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from torch import nn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import Architecture

BLOCKS: dict[str, type[nn.Module]] = {}  # by the names that plans know them by

Block = TypeVar("Block", bound=type[nn.Module])


def register(name: str) -> Callable[[Block], Block]:
    """Make a class of units one that plans can name. Raises UserError where another class has the name."""

    def add(block: Block) -> Block:
        there = BLOCKS.get(name, block)
        if (there.__module__, there.__qualname__) != (block.__module__, block.__qualname__):
            raise UserError(f"the block {name!r} is {there.__module__}.{there.__qualname__}: choose another name")
        BLOCKS[name] = block
        return block

    return add


def find_block(name: str) -> type[nn.Module]:
    """The class of units registered under a name. Raises UserError, which names those there are."""
    if name not in BLOCKS:
        raise UserError(f"there is no block {name!r}: the blocks are {', '.join(BLOCKS)}")
    return BLOCKS[name]


def choose_block(plan: Architecture) -> Callable[..., nn.Module]:
    """What makes the units of a plan. Raises UserError as find_block does."""
    block = find_block(plan.block_name)
    if plan.bottleneck and (plan.stride_first or plan.bias):
        return partial(block, stride_first=plan.stride_first, bias=plan.bias)
    return block
