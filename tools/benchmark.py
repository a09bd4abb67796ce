#!/usr/bin/env python3
"""Measure what this project costs: `python tools/benchmark.py io` the reading of records, `memory` that of training."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mxnet_resnet.arguments import Parser
from mxnet_resnet.errors import run
from tools.benchmarks import io, memory


def main() -> None:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in (("io", io), ("memory", memory)):
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.main)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    run(main)
