#!/usr/bin/env python3
"""Classify images with a trained net."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.predict import main

if __name__ == "__main__":
    run(main)
