#!/usr/bin/env python3
"""Launch a training on several machines."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.launch import main

if __name__ == "__main__":
    run(main)
