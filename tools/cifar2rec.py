#!/usr/bin/env python3
"""Make lossless records of CIFAR-10 or CIFAR-100 from the official archive, binary or Python version."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.cifar2rec import main

if __name__ == "__main__":
    run(main)
