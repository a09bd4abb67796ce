#!/usr/bin/env python3
"""Top-1 and top-5 error of a net on records."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.evaluate import main

if __name__ == "__main__":
    run(main)
