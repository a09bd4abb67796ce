"""How far a long job is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_A_LINE = 30


def progress(
    items: Iterable[Item], name: str, total: int | None = None, done: int = 0, unit: str = "images"
) -> Iterator[Item]:
    """The items; of ``total`` in all, ``done`` were there before."""
    begun = told = time.monotonic()
    with tqdm(items, name, total, initial=done, unit=f" {unit}", leave=False, disable=None) as bar:
        for number, item in enumerate(bar, done + 1):
            yield item
            now = time.monotonic()
            if bar.disable and now - told >= SECONDS_A_LINE:
                told = now
                of_all = f" of {total:,}" if total else ""
                print(
                    f"{name}: {number:,}{of_all} {unit}, {(number - done) / max(now - begun, 1e-9):.0f} a second",
                    flush=True,
                )
