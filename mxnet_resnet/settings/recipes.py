"""Recipes: the flags of a published result, or of our own, in YAML, as far as they differ from the defaults."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mxnet_resnet.base import nearest, sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.settings import flags
from mxnet_resnet.settings.listing import FOLDER

LARGEST = 1 << 16  # bytes of a recipe
# What says where a run begins or is kept is not part of a result.
OF_A_RUN = {
    "recipe",
    "resume",
    "max-minutes",
    "seeds",
    "retrain",
    "model-load-epoch",
    "load-params",
    "reset-optimizer",
    "model-prefix",
    "eval-only",
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last, and aliases, of which a few lines can stand
    for billions.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise UserError("a recipe has no aliases (*NAME): write out what they stand for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise UserError(f"the key {key.value!r} stands there twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load(name: str) -> flags.Flags:
    """The flags of ``recipes/NAME.yaml``, or of a file with the ending .yaml. Raises UserError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        near = nearest.describe_nearest(nearest.find_nearest(name, known)) or " (--list-recipes has those that are)"
        raise UserError(f"there is no recipe {name}{near}")
    data = sources.read(path, "the recipe")
    if len(data) > LARGEST:
        raise UserError(f"{path} has more than {LARGEST:,} bytes, and a recipe has a few lines")
    try:
        content = yaml.load(data.decode(), _Loader)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, LookupError, AttributeError) as error:
        raise UserError(f"{path} is not YAML") from error  # PyYAML makes numbers and dates of what looks like them
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe: its lines are KEY: VALUE, and the keys are flags of train_resnet.py")
    try:
        texts = {key if isinstance(key, str) else repr(key): flags.as_text(value) for key, value in content.items()}
    except ValueError as error:  # Python writes no number of so many digits
        raise UserError(f"{path} has a number that is too large") from error
    allowed = {name.replace("_", "-") for name in vars(flags.parse({}))} - OF_A_RUN
    for key in texts:
        if key not in allowed:
            near = nearest.describe_nearest(nearest.find_nearest(key, sorted(allowed), most=1))
            raise UserError(f"{path}: {key!r} is no flag that a recipe can have{near}")
    recipe: flags.Flags = dict(texts)
    if "batch-size" in recipe:
        recipe.setdefault("lr-batch", recipe["batch-size"])
    try:
        flags.parse(recipe)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return recipe
