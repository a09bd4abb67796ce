"""Names of classes: a synset file has a line a class, in the order of the labels."""

from __future__ import annotations

from mxnet_resnet.base.errors import UserError


def read_synset(path: str, num_classes: int) -> list[str]:
    """The class names of a synset file, a line a class. Raises UserError unless there are ``num_classes``."""
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read class names from {path}: {error}") from error
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, and the net has {num_classes}")
    return names
