#!/usr/bin/env python3
"""Runs that differ in their seed alone, as one line each."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.aggregate import main

if __name__ == "__main__":
    run(main)
