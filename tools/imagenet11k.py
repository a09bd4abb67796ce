#!/usr/bin/env python3
"""Write the records of ImageNet-11k from the tar of all of ImageNet (fall11_whole.tar), without unpacking it."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.imagenet11k import main

if __name__ == "__main__":
    run(main)
