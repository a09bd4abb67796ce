"""Whose the checkpoints at a prefix are: a run writes over nothing that is not known to be its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import explaining_refusals, name_by_date
from mxnet_resnet.base.places import find_place
from mxnet_resnet.runs import checkpoint, entries, identity, ledger
from mxnet_resnet.runs.entries import Entry
from mxnet_resnet.runs.identity import Identity

ELSEWHERE = "give this run another --model-prefix"
FROM_SEED = "random weights"


def find_strangers(prefix: str) -> list[str]:
    """The names of the checkpoints that no entry vouches for, the oldest first.

    They are those of Module.fit, of other programs, and of ours that were copied without their ``.json``.
    """
    pattern = re.compile(re.escape(Path(prefix).name) + rf"-({entries.NAME})\.params")
    folder = Path(prefix).parent
    matches = map(pattern.fullmatch, (path.name for path in folder.iterdir())) if folder.is_dir() else ()
    names = [match[1] for match in matches if match]
    return sorted((name for name in names if not ledger.vouches(prefix, name)), key=entries.order)


def check_no_checkpoint(*paths: Path) -> None:
    """Raise UserError where a path is that of a file of a run's checkpoints, for a command that writes other things."""
    ending = re.compile(rf"-(symbol|latest|best|{entries.NAME})\.(params|state|json)")
    for path in paths:
        target = find_place(path).target
        ends = [dash.start() for dash in re.finditer("-", target.name) if ending.fullmatch(target.name, dash.start())]
        for prefix in (str(target.with_name(target.name[:end])) for end in ends if end):
            if ledger.knows_run(prefix):
                raise UserError(f"cannot write {path}: it is of the checkpoints of the run {prefix}, give another name")


def check_ahead(prefix: str, epoch: int, last: int) -> None:
    """Raise UserError where a run that goes on after ``epoch`` epochs would write over checkpoints of strangers."""
    ahead = [name for name in find_strangers(prefix) if epoch < entries.order(name)[0] <= last]
    if ahead:
        raise UserError(
            f"{_describe_strangers(prefix, ahead)}, and would be written over: start from the last of them, with "
            f"--retrain --model-load-epoch {entries.order(ahead[-1])[0]}, or move them away"
        )


def check_free(prefix: str, settings: Identity, epochs: int, graph: str, arguments: Mapping[str, Any]) -> list[str]:
    """Sentences for the log of a run that begins, for which nothing at ``prefix`` is needed.

    ``graph`` is what it writes; ``arguments`` are its flags. Raises UserError where it would write over anything but a
    finished run of the same ``settings`` and ``epochs``, from weights that the seed gives: that is this run once more.
    """
    if strangers := find_strangers(prefix):
        whole = [name for name in strangers if "-" not in name]
        train_on = f"train on from one with --retrain --model-load-epoch {int(whole[-1])}, or " if whole else ""
        raise UserError(f"{_describe_strangers(prefix, strangers)}: {train_on}{ELSEWHERE}")
    names = ledger.all_names(prefix)
    if not names:
        path = checkpoint.graph_path(prefix)
        if not _is_our_graph(prefix, graph):
            raise UserError(f"{path} is there, and not known to be of this program: {ELSEWHERE}")
        return []
    try:
        there = [entries.read_found(prefix, name) for name in names]
    except UserError as error:
        raise UserError(f"{error}, and this run would write over it: {ELSEWHERE}") from error
    if problem := _find_difference(there, settings, epochs, arguments):
        latest = "it" if len({entry.run for entry in there}) == 1 else "the latest of them"
        goes_on = f"; --resume goes on with {latest}" if ledger.names(prefix) else ""
        anew = f"to begin anew, {ELSEWHERE}, or remove {'them' if len(names) > 1 else 'it'}"
        raise UserError(f"{prefix} has {count(names)} of {problem}{goes_on}; {anew}")
    return [f"There is a finished run of the same settings at {prefix}: it is trained once more, and written over"]


def describe_superseded(prefix: str, entry: Entry, last: int) -> list[str]:
    """A sentence for the log of a run that trains from ``entry`` to the epoch ``last``, where checkpoints of another
    run of ours lie ahead.
    """
    later = [name for name in ledger.all_names(prefix)[::-1] if entries.order(name) > [entry.epoch, entry.batch]]
    ahead = [name for name in later if not ledger.is_of(prefix, name, entry.run)]
    over = [name for name in ahead if "-" not in name and entries.order(name)[0] <= last]
    stay = [name for name in ahead if "-" not in name and entries.order(name)[0] > last]
    within = [name for name in ahead if "-" in name]
    told = ((over, "will be written over"), (within, "will be removed"), (stay, "will stay"))
    some = [f"{count(names)} {will}" for names, will in told if names]
    return [f"Of an earlier run of {prefix} {', '.join(some)}"] if some else []


def keep_graph(prefix: str, graph: str) -> list[str]:
    """Copy a graph that is not known to be ours to a name with its date, for a run is to write its own there: a
    sentence on it, if there is one.
    """
    if _is_our_graph(prefix, graph):
        return []
    path = checkpoint.graph_path(prefix)
    kept = name_by_date(path)
    with explaining_refusals(kept):
        shutil.copy2(path, kept)
    return [f"{path} was not written by this program: it is kept as {kept}"]


def _is_our_graph(prefix: str, graph: str) -> bool:
    """Whether the graph at a prefix may be replaced: none is there, a run of ours wrote it, or it is the same."""
    path = checkpoint.graph_path(prefix)
    if not path.exists() or ledger.knows_run(prefix):
        return True
    with explaining_refusals(path):
        return sources.read(path, "the graph") == graph.encode()


def _find_difference(
    there: Sequence[Entry], settings: Identity, epochs: int, arguments: Mapping[str, Any]
) -> str | None:
    """What is at a prefix, the newest first, in place of the finished run of these settings; None: nothing else."""
    newest = there[0]
    if changes := identity.compare(newest.settings, settings):
        return f"another run ({'; '.join(map(identity.describe, changes))})"
    if len({entry.run for entry in there}) > 1:
        return "several runs of these settings"
    began = _describe_beginning(newest.arguments)
    if began != _describe_beginning(arguments):
        return f"a run of these settings that began from {began}"
    if newest.epoch > epochs:
        return f"this run, and --epochs {epochs} is less"
    if (newest.epoch, newest.batch) != (epochs, 0):
        return f"this run, which has not come to the end of --epochs {epochs}"
    if began != FROM_SEED:  # what that is now is not known
        return f"this run, which has finished, and began from {began}"
    return None


def _describe_beginning(arguments: Mapping[str, Any]) -> str:
    """What a run with these flags begins from."""
    if "load-params" in arguments:
        return f"the parameters in {arguments['load-params']}"
    if "retrain" in arguments:
        return f"epoch {arguments.get('model-load-epoch', 0)} of another run"
    return FROM_SEED


def _describe_strangers(prefix: str, names: Sequence[str]) -> str:
    return f"{prefix} has {count(names)} that this program did not write, or whose .json is gone"


def count(names: Iterable[str]) -> str:
    """``"the checkpoints 0001 to 0003 and 0007"``, of names in either order."""
    spans: list[list[str]] = []
    for name in sorted(names, key=entries.order):
        if spans and "-" not in name + spans[-1][-1] and int(name) == int(spans[-1][-1]) + 1:
            spans[-1][1:] = [name]
        else:
            spans.append([name])
    *others, last = [" to ".join(span) for span in spans]
    told = f"{', '.join(others)} and {last}" if others else last
    return f"the checkpoint{'s' if len(others) or ' ' in last else ''} {told}"
