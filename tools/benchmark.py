#!/usr/bin/env python3
"""Measure what this project costs, and what others cost: `python tools/benchmark.py train --compare`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mxnet_resnet.arguments import Parser
from mxnet_resnet.errors import run
from tools.benchmarks import growth, io, loop, memory, startup, versus

COMMANDS = {
    "train": (versus, "train"),
    "infer": (versus, "infer"),
    "io": (io,),
    "memory": (memory,),
    "loop": (loop,),
    "startup": (startup,),
    "growth": (growth,),
}


def main() -> None:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, *task) in COMMANDS.items():
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(command, *task)
        command.set_defaults(run=partial(_run, module, task))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _run(module, task: list[str], arguments) -> None:
    module.main(arguments, *task)


if __name__ == "__main__":
    run(main)
