#!/usr/bin/env python3
"""Convert a ResNet checkpoint, and prove that the result computes the same."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.convert import main

if __name__ == "__main__":
    run(main)
