#!/usr/bin/env python3
"""Draw where in images a net sees its classes (Grad-CAM)."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.explain import main

if __name__ == "__main__":
    run(main)
