#!/usr/bin/env python3
"""Draw what training sees of an image at augmentation levels 1, 2 and 3."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.show_augment import main

if __name__ == "__main__":
    run(main)
