"""All commands behind one: `mxnet-resnet COMMAND ...`, or `python -m mxnet_resnet COMMAND ...`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files

from mxnet_resnet.base.errors import UserError, run


def list_commands() -> list[str]:
    """The names of the commands, one a module of the room."""
    names = (path.name for path in files("mxnet_resnet.commands").iterdir())
    return sorted(name[: -len(".py")] for name in names if name.endswith(".py") and name != "__init__.py")


def main() -> int | None:
    """Run the command that is named first, with the flags behind it."""
    commands = list_commands()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        print(
            f"usage: mxnet-resnet COMMAND ...; --help behind a command lists its flags\ncommands: {', '.join(commands)}"
        )
        return 0 if name else 2
    if name.replace("-", "_") not in commands:
        raise UserError(f"there is no command {name!r}: the commands are {', '.join(commands)}")
    sys.argv[:2] = [f"mxnet-resnet {name}"]
    return import_module(f"mxnet_resnet.commands.{name.replace('-', '_')}").main()


def enter() -> None:
    """Run as a console script."""
    run(main)


if __name__ == "__main__":
    enter()
