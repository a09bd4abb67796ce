"""Recipes: the flags of a published result, in YAML, as far as they differ from the defaults."""

from __future__ import annotations

import difflib
from pathlib import Path

import yaml

from mxnet_resnet import flags
from mxnet_resnet.errors import UserError

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
# What says where a run begins or is kept is not part of a result.
OF_A_RUN = {"recipe", "resume", "retrain", "model-load-epoch", "load-params", "reset-optimizer", "model-prefix"}


def load(name: str) -> flags.Flags:
    """The flags of ``recipes/NAME.yaml``, or of a file with the ending .yaml. Raises UserError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        nearest = difflib.get_close_matches(name, known, n=4, cutoff=0)
        raise UserError(f"there is no recipe {name}: the nearest are {', '.join(nearest)}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a recipe: its lines are KEY: VALUE, and the keys are flags of train_resnet.py")
    allowed = {name.replace("_", "-") for name in vars(flags.parse({}))} - OF_A_RUN
    for key in content:
        if key not in allowed:
            nearest = difflib.get_close_matches(str(key), sorted(allowed), n=1, cutoff=0)[0]
            raise UserError(f"{path}: {key!r} is no flag that a recipe can have; the nearest is {nearest!r}")
    recipe = {key: _text(value) for key, value in content.items()}
    if "batch-size" in recipe:
        recipe.setdefault("lr-batch", recipe["batch-size"])
    try:
        flags.parse(recipe)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return recipe


def _text(value: object) -> object:
    if isinstance(value, bool):
        return value
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
