#!/usr/bin/env python3
"""Write the UCI handwritten digits as records: 1,797 real images, a first data set that needs no download."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.digits2rec import main

if __name__ == "__main__":
    run(main)
