"""The names by which plans ask for residual units (Architecture.block); each engine has classes of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import Architecture

Block = TypeVar("Block", bound=type)
Blocks = dict[str, Any]  # classes of units by the names that plans know them by


def register(blocks: Blocks, name: str) -> Callable[[Block], Block]:
    """Make a class of units one that plans can name. Raises UserError where another class has the name."""

    def add(block: Block) -> Block:
        there = blocks.get(name, block)
        if (there.__module__, there.__qualname__) != (block.__module__, block.__qualname__):
            raise UserError(f"the block {name!r} is {there.__module__}.{there.__qualname__}: choose another name")
        blocks[name] = block
        return block

    return add


def find_block(blocks: Blocks, name: str) -> Any:
    """The class of units registered under a name. Raises UserError, which names those there are."""
    if name not in blocks:
        raise UserError(f"there is no block {name!r}: the blocks are {', '.join(blocks)}")
    return blocks[name]


def choose_block(blocks: Blocks, plan: Architecture) -> Callable[..., Any]:
    """What makes the units of a plan. Raises UserError as find_block does."""
    block = find_block(blocks, plan.block_name)
    if plan.bottleneck and (plan.stride_first or plan.bias):
        return partial(block, stride_first=plan.stride_first, bias=plan.bias)
    return block
