"""Names that an unknown name may have been meant for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LEAST_ALIKE = 0.75  # of letters in common, in order: two that are swapped or wrong in a short name, not another word


def find_nearest(name: str, known: Iterable[str], most: int = 4) -> list[str]:
    """The known names that are spelt nearly as ``name``, the nearest first; often none."""
    return difflib.get_close_matches(name.lower(), list(known), most, LEAST_ALIKE)


def describe_nearest(nearest: list[str]) -> str:
    """What an error adds for names that are near: nothing where there are none."""
    if not nearest:
        return ""
    return f": the nearest {'are' if len(nearest) > 1 else 'is'} {', '.join(nearest)}"
