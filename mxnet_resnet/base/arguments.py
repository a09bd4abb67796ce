"""Command lines: a parser whose errors are one sentence, and the kinds of values that flags have."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.places import STDOUT, find_descriptor, is_same

LARGEST_SEED = 2**31 - 1  # MXNet's seeds are C integers
# Besides 0, for float32, in which nets are computed; --scale-lr may multiply one by a batch.
LARGEST_NUMBER, SMALLEST_NUMBER = 1e28, 1e-30


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show the defaults that there are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def output(text: str) -> Path:
    """A file to write to; ``-`` is the standard output."""
    return STDOUT if text == "-" else Path(text)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError, so that a command ends with one sentence and status 2.

    Where an `output` goes to the standard output, what the command tells goes to standard error.
    """

    def __init__(self, description: str, **kwargs: Any):
        super().__init__(description=description, formatter_class=_Formatter, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        found = super().parse_args(args, namespace)
        outputs = {action: getattr(found, action.dest) for action in self._actions if action.type is output}
        for action, path in outputs.items():
            if path is not None:
                self._check_apart(action, path, found)
        if any(find_descriptor(path) == 1 for path in outputs.values() if path is not None):
            sys.stdout = sys.stderr
        return found

    def _check_apart(self, action: argparse.Action, path: Path, found: argparse.Namespace) -> None:
        """Raise UserError where another flag names the file that is to be written."""
        for other in self._actions:
            value = getattr(found, other.dest, None)
            named = value if isinstance(value, list) else [value]
            files = (Path(one) for one in named if isinstance(one, (str, Path)) and other is not action)
            if any(is_same(path, file) for file in files):
                name, theirs = (one.option_strings[0] if one.option_strings else one.dest for one in (action, other))
                raise UserError(f"{name} {path} would take the place of the file that {theirs} names")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse would keep silent where the disk is full

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def integers(text: str) -> list[int]:
    """``"0,1,2"`` as a list of whole numbers from 0 on, in which none is twice; ``"none"`` is the empty list."""
    if text == "none":
        return []
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) <= len(str(LARGEST_SEED))]
    if len({*numbers}) < len(parts) or max(numbers) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a list of different whole numbers such as 0,1,2")
    return numbers


def seeds(text: str) -> list[int]:
    """``"111,222"`` as one or more seeds, of which none is twice."""
    try:
        found = integers(text)
    except argparse.ArgumentTypeError:
        found = []
    if not found or max(found) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of different whole numbers from 0 to {LARGEST_SEED} such as 111,222,333"
        )
    return found


def shape(text: str) -> tuple[int, ...]:
    """``"3,224,224"`` as three whole numbers from 1 on: channels, height and width, of at most 4096 pixels."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not 3,HEIGHT,WIDTH, with 1 to 4096 pixels a side")
    if parts[0] != "3":
        rgb = ",".join(["3", *parts[1:]])
        raise argparse.ArgumentTypeError(
            f"{text!r} has {parts[0]} channel{'s' * (parts[0] != '1')}, and all images, grey ones too, are read as R, "
            f"G and B: take {rgb}"
        )
    return tuple(map(int, parts))


def integer(low: int = 1, high: int = LARGEST_SEED) -> Callable[[str], int]:
    """The kind of flag that is a whole number from ``low`` to ``high``."""

    def convert(text: str) -> int:
        if not text.isdecimal() or len(text) > 4000 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = number(0)(text)
    except argparse.ArgumentTypeError:
        value = 0.0
    if not value:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a number above 0")
    return value


def number(low: float, high: float = math.inf, high_included: bool = True) -> Callable[[str], float]:
    """The kind of flag that is a number from ``low`` to ``high``."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = low <= value <= high if high_included else low <= value < high
        if inside and 0 < value < SMALLEST_NUMBER:
            raise argparse.ArgumentTypeError(
                f"{text[:80]!r} is too small to compute with: take 0, or {SMALLEST_NUMBER:g}"
            )
        if not inside or value > LARGEST_NUMBER:
            bound = f" to {'' if high_included else 'below '}{high:g}" if high < math.inf else " on"
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a number from {low:g}{bound}")
        return value

    return convert


def epoch(text: str) -> int | str:
    """A whole number from 0 on, ``"best"`` or ``"latest"``."""
    if text in ("best", "latest"):
        return text
    try:
        return integer(0)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, best or latest") from None


def channels(text: str) -> tuple[float, ...]:
    """Three numbers from 0 on, of R, G and B: ``"0.485,0.456,0.406"``."""
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 <= value <= LARGEST_NUMBER for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers from 0 on, for R, G and B, of images in 0..1")
    return values


def deviations(text: str) -> tuple[float, ...]:
    """As `channels`, none of them 0."""
    values = channels(text)
    if min(values) < SMALLEST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} has a deviation of 0")
    return values
