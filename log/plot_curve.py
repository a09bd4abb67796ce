#!/usr/bin/env python3
"""Plot training curves from logs."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.plot_curve import main

if __name__ == "__main__":
    run(main)
