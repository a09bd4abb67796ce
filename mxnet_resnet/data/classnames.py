"""The names of classes, a line each in a file."""

from __future__ import annotations

from pathlib import Path

from mxnet_resnet.base.errors import UserError


def number_class(label: int) -> str:
    """What to call a class without a name."""
    return f"class {label}"


def read_class_names(path: str | Path, num_classes: int) -> list[str]:
    """The names in a file, in the order of the classes. Raises UserError unless there are ``num_classes``."""
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read class names from {path}: {error}") from error
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, and the net has {num_classes}")
    return names
