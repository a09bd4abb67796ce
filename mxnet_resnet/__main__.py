"""All commands behind one: `mxnet-resnet COMMAND ...`, or `python -m mxnet_resnet COMMAND ...`."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from importlib.resources import files

from mxnet_resnet import __version__
from mxnet_resnet.base.errors import UserError, run


def list_commands() -> list[str]:
    """The names of the commands, one a module of the room."""
    names = (path.name for path in files("mxnet_resnet.commands").iterdir())
    return sorted(name[: -len(".py")] for name in names if name.endswith(".py") and not name.startswith("_"))


def describe_command(name: str) -> str:
    """What a command does, in a line: the first of its docstring without the example, read and not imported."""
    text = (files("mxnet_resnet.commands") / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return docstring.partition("\n")[0].partition(": `")[0].rstrip(".")


def list_help() -> str:
    """The help of `mxnet-resnet` itself."""
    names = list_commands()
    width = max(map(len, names))
    lines = (f"  {name:{width}}  {describe_command(name)}" for name in names)
    return "\n".join(
        [
            "usage: mxnet-resnet COMMAND [FLAGS]",
            "       mxnet-resnet COMMAND --help    the flags of a command",
            "       mxnet-resnet --version",
            "",
            "commands:",
            *lines,
        ]
    )


def main() -> int | None:
    """Run the command that is named first, with the flags behind it."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        print(list_help())
        return 0 if name else 2
    if name == "--version":
        print(f"mxnet-resnet {__version__}")
        return 0
    module = name.replace("-", "_")
    if module not in list_commands():
        raise UserError(f"there is no command {name!r}: the commands are {', '.join(list_commands())}")
    sys.argv[:2] = [f"mxnet-resnet {name}"]
    return import_module(f"mxnet_resnet.commands.{module}").main()


def enter() -> None:
    """Run as a console script."""
    run(main)


if __name__ == "__main__":
    enter()
