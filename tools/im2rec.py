#!/usr/bin/env python3
"""Make records from images in folders, or from .lst files, with the flags of MXNet's im2rec."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.im2rec import main

if __name__ == "__main__":
    run(main)
