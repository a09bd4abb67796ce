#!/usr/bin/env python3
"""Measure what this project costs, and what others cost: `python tools/benchmark.py train --compare`."""

from __future__ import annotations

from benchmarks import growth, io, loop, memory, peak, startup, versus

from mxnet_resnet.base.arguments import Parser
from mxnet_resnet.base.errors import run

COMMANDS = {
    "train": (versus, "train"),
    "infer": (versus, "infer"),
    "io": (io,),
    "memory": (memory,),
    "loop": (loop,),
    "startup": (startup,),
    "growth": (growth,),
    "peak": (peak,),
}


def main() -> int | None:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, *task) in COMMANDS.items():
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(command, *task)
        command.set_defaults(module=module, task=task)
    arguments = parser.parse_args()
    return arguments.module.main(arguments, *arguments.task)


if __name__ == "__main__":
    run(main)
