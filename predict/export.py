#!/usr/bin/env python3
"""Take a trained net out of training."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.export import main

if __name__ == "__main__":
    run(main)
