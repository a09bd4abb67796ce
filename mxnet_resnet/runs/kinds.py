"""What settings of operators may be: kinds of texts, as MXNet writes numbers, rows, switches and words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

Settings = Mapping[str, str]

MOST = 2**31 - 1
MOST_AXES = 8
TYPES = "float32 float64 float16 bfloat16 uint8 int8 int32 int64 bool"
_TRUE = {"true", "1"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}L?")  # with the L of Python 2, whose files have it


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes:
        words: the same, said to a user.
        takes: whether a text is one.
    """

    words: str
    takes: Callable[[str], bool]


def read_whole(text: str) -> int:
    """A whole number, as MXNet writes it. Raises ValueError where it is none."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError("no whole number")
    return int(text.strip().rstrip("L"))


def read_row(text: str) -> tuple[int | None, ...]:
    """Whole numbers in brackets, or one without; None may be among them. Raises ValueError where it is none."""
    match = re.fullmatch(r"[(\[](.*)[)\]]", text.strip())
    if not match:
        return (read_whole(text),)
    parts = match[1].strip().removesuffix(",").split(",") if match[1].strip() else []
    return tuple(None if part.strip() == "None" else read_whole(part) for part in parts)


def is_true(settings: Settings, name: str, default: bool = False) -> bool:
    """Whether a switch is on."""
    return settings[name].lower() in _TRUE if name in settings else default


def whole(least: int, most: int, also: Sequence[str] = ()) -> Kind:
    words = f"a whole number from {least} to {most}"
    return Kind(words, lambda text: text in also or least <= read_whole(text) <= most)


def row(least: int, most: int, also: Sequence[str] = (), gaps: bool = False, longest: int = MOST_AXES) -> Kind:
    def takes(text: str) -> bool:
        if text in also:
            return True
        row = read_row(text)
        return len(row) <= longest and all(gaps if one is None else least <= one <= most for one in row)

    return Kind(f"whole numbers from {least} to {most}", takes)


def word(words: str, *others: str) -> Kind:
    known = {*words.split(), *others}
    return Kind(f"one of {', '.join(sorted(known))}", lambda text: text in known)


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    if (least, most) == (-math.inf, math.inf):
        return Kind("a number", lambda text: not math.isnan(float(text)))
    return Kind(f"a number from {least:g} to {most:g}", lambda text: least <= float(text) <= most)


def either(kind: Kind) -> Kind:
    return Kind(f"{kind.words}, or None", lambda text: text == "None" or kind.takes(text))


def floats(text: str) -> bool:
    return all(math.isfinite(float(part)) for part in text.strip("()[] ").rstrip(",").split(","))


SWITCH = Kind("True or False", lambda text: text.lower() in ("true", "false", "0", "1"))
NUMBER = number()
AXIS = whole(-MOST_AXES, MOST_AXES - 1)
AXES = row(-MOST_AXES, MOST_AXES - 1, also=("None",))
ORDER = Kind(
    "axes, each once", lambda text: text == "None" or len({*read_row(text)}) == len(read_row(text)) <= MOST_AXES
)
TYPE = word(TYPES)
