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
    """Refuses a key that stands twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"the key {key!r} stands there twice")
        return super().construct_mapping(node, deep)


def load(name: str) -> flags.Flags:
    """The flags of ``recipes/NAME.yaml``, or of a file with the ending .yaml. Raises UserError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        near = nearest.describe_nearest(nearest.find_nearest(name, known)) or " (--list-recipes has those that are)"
        raise UserError(f"there is no recipe {name}{near}")
    try:
        content = yaml.load(sources.read(path, "the recipe").decode(), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe: its lines are KEY: VALUE, and the keys are flags of train_resnet.py")
    allowed = {name.replace("_", "-") for name in vars(flags.parse({}))} - OF_A_RUN
    for key in content:
        if key not in allowed:
            near = nearest.describe_nearest(nearest.find_nearest(str(key), sorted(allowed), most=1))
            raise UserError(f"{path}: {key!r} is no flag that a recipe can have{near}")
    recipe = {key: flags.as_text(value) for key, value in content.items()}
    if "batch-size" in recipe:
        recipe.setdefault("lr-batch", recipe["batch-size"])
    try:
        flags.parse(recipe)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return recipe
