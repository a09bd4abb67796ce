#!/usr/bin/env python3
"""Check record files before training."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.check_rec import main

if __name__ == "__main__":
    run(main)
