#!/usr/bin/env python3
"""Train a ResNet-v2 on RecordIO images; `python train_resnet.py --help` lists the flags."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.train import main

if __name__ == "__main__":
    run(main)
