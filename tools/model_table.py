#!/usr/bin/env python3
"""Write the table of the named networks."""

from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.model_table import main

if __name__ == "__main__":
    run(main)
