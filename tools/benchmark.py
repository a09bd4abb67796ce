#!/usr/bin/env python3
"""Measure what this project costs, and what others cost: `python tools/benchmark.py train --compare`."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

from mxnet_resnet.base.arguments import Parser
from mxnet_resnet.base.errors import run

COMMANDS = {
    "train": ("versus", "train"),
    "infer": ("versus", "infer"),
    "gpu": ("gpu",),
    "profile": ("profile",),
    "io": ("io",),
    "crews": ("crews",),
    "size": ("size",),
    "memory": ("memory",),
    "loop": ("loop",),
    "startup": ("startup",),
    "growth": ("growth",),
    "peak": ("peak",),
}


def main() -> int | None:
    """Run a command, whose module alone is imported: some need MXNet, others a process without it."""
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, *task) in COMMANDS.items():
        description = read_docstring(module)
        command = commands.add_parser(name, help=description.splitlines()[0], description=description)
        if name in sys.argv[1:2]:
            chosen = import_module(f"benchmarks.{module}")
            chosen.add_arguments(command, *task)
            command.set_defaults(module=chosen, task=task)
    arguments = parser.parse_args()
    return arguments.module.main(arguments, *arguments.task)


def read_docstring(module: str) -> str:
    """What a module of benchmarks says that it does; it is not imported."""
    text = (Path(__file__).with_name("benchmarks") / f"{module}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(text)) or ""


if __name__ == "__main__":
    run(main)
