"""The flags of the commands that make the records of ImageNets."""

from __future__ import annotations

import argparse

from mxnet_resnet.base.arguments import Parser, integer, integers
from mxnet_resnet.base.environment import cores
from mxnet_resnet.data import imagebounds


def add(parser: Parser) -> None:
    """Add what sizes and quality the images have, in what order they are, and how many threads work."""
    parser.add_argument("--sizes", type=_sizes, default="480,256", help="short sides of the training images")
    parser.add_argument("--quality", type=integer(1, 100), default=90, help="of the JPEGs")
    parser.add_argument("--num-workers", type=integer(1, 1024), default=cores(), help="threads that decode and encode")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the order of the records")
    imagebounds.add_flag(parser)


def _sizes(text: str) -> list[int]:
    sizes = integers(text)
    if not sizes or not all(1 <= size <= 4096 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes from 1 to 4096 such as 480,256")
    return sizes
