#!/usr/bin/env python3
"""Write the records of ImageNet (ILSVRC 2012) from its tars, without unpacking them."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.imagenet2rec import main

if __name__ == "__main__":
    run(main)
