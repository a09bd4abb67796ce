"""What ``--list-recipes`` and ``--list-networks`` print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mxnet_resnet.plans import architecture

FOLDER = Path(__file__).resolve().parents[1] / "recipes"


class Listing(argparse.Action):
    """A flag that prints a text and ends the command, as ``--help`` does."""

    def __init__(self, option_strings: list[str], dest: str, text: Callable[[], str], help: str):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(self.text())
        parser.exit()


def list_recipes() -> str:
    """A line a recipe: its name, and where it is from with its result."""
    return _align((path.stem, _describe_recipe(path)) for path in sorted(FOLDER.glob("*.yaml")))


def list_networks() -> str:
    """A line a named net: its name, and what it is made of."""
    return _align((name, _describe_plan(plan)) for name, plan in architecture.MODELS.items())


def _describe_recipe(path: Path) -> str:
    """The comment below the one that is the command."""
    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return comments[1]


def _describe_plan(plan: architecture.Architecture) -> str:
    units = ", ".join(str(units) for units, _ in plan.dimensions[1:])
    kind = (
        f"{'pre' if plan.preact else 'post'}-activation, {units} {'bottleneck' if plan.bottleneck else 'basic'} units"
    )
    width = f", width {plan.width}" if plan.width > 1 else ""
    return f"{kind}{width}, for {'small' if plan.small_images else 'large'} images; {plan.source}"


def _align(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
