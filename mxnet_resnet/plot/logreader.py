"""Training logs in, as runs: text (logtext.py), what its lines tell (loglines.py), whose lines they are
(logstreams.py), what they come to (logruns.py), with metrics by our names (logmetrics.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import logruns, logtext
from mxnet_resnet.plot.loglines import Event, Item, Told, Unread, parse
from mxnet_resnet.plot.run import Run

MOST_WORKERS = 1000
FOLDER_LOGS = ("train.log", "metrics.jsonl")  # ours lie in LOG_DIR/RUN, and are called RUN


def read(path: Path) -> Run:
    """The last run in a training log, of several workers that of the first. Raises UserError as ``read_all`` does."""
    return _read(path)[0][-1]


def read_all(path: Path) -> list[Run]:
    """The runs in a training log: of more than one, the names are numbered, and of several workers, tell which.

    Lines that go back to epoch 0 begin another run where other arguments stand before them; else the run was restarted.
    Lines that go back while others go on are of another worker. What is left out or taken for granted is in the notes.
    Raises UserError where the file cannot be read or no epoch is in it.
    """
    return [run for runs in _read(path) for run in runs]


def tell_notes(runs: Sequence[Run]) -> None:
    """Print what was left out of logs, and what was taken for granted, to standard error."""
    for run in runs:
        for note in run.notes:
            print(f"note: {run.name}: {note}", file=sys.stderr, flush=True)


def _read(path: Path) -> list[list[Run]]:
    """The runs of each worker."""
    lines, told = logtext.read_lines(path)
    items = [item for number, line in lines for item in parse(number, line)]
    marks = sorted({item.mark for item in items if isinstance(item, Event) and item.mark}, key=_natural)
    if len(marks) > MOST_WORKERS:
        told.append(f"{len(marks)} names before its lines are too many for workers: they are passed over")
        marks = []
    if unread := [item.line for item in items if isinstance(item, Unread)]:
        told.append(f"lines of a form that is not known tell of a validation: {len(unread)}, the first is {unread[0]}")
    of_mark: dict[str, list[Item]] = {mark: [] for mark in marks or [""]}
    first = next(iter(of_mark))  # who tells what is not marked
    for item in items:
        whose = [item.mark] if marks and item.mark else of_mark if isinstance(item, Told) else [first]
        for mark in whose:
            if mark in of_mark:
                of_mark[mark].append(item)
    found = []
    for mark, mine in of_mark.items():
        name = f"{_name(path)} {mark}" if len(marks) > 1 else _name(path)
        found.append(logruns.build(name, mine))
    if not found[0]:
        raise UserError(f"{path} has no curve in it: no line of it is one of an MXNet training log")
    found[0][0].notes[:0] = told
    return found


def _name(path: Path) -> str:
    """What to call a log: the folder's name for our LOG_DIR/RUN/train.log, else the file's."""
    return path.resolve().parent.name if path.name in FOLDER_LOGS else path.stem


def _natural(mark: str) -> list[tuple[int, str]]:
    """An order in which 10 comes behind 9."""
    return [(int(part or 0) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", mark)]
