"""The checkpoints of a run, by their entries, and two pointers to them.

``PREFIX-latest.json`` names the run and its newest checkpoint, ``PREFIX-best.json`` the one with the lowest validation
error. The entry of a checkpoint is written last: without it there is none.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mxnet_resnet.base import files
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import entries
from mxnet_resnet.runs.entries import Entry
from mxnet_resnet.runs.pointers import read_pointer, write_pointer

WRITING = "writing"  # in PREFIX-latest.json: the checkpoint whose files are about to take their places


def begin(prefix: str, entry: Entry, anew: bool) -> None:
    """Note that a run starts, ``anew`` or to go on: from now on it is the one to resume.

    Removes what only an earlier run could use, and what one that was killed had half written.
    """
    for path, rest in list(files.abandoned(Path(prefix))):
        if re.fullmatch(rf"-(symbol|latest|best|{entries.NAME})", rest):
            path.unlink(missing_ok=True)
    if anew:
        for name in all_names(prefix):
            if "-" in name:
                _remove(prefix, name)
        entries.file(prefix, "best", "json").unlink(missing_ok=True)
    if entry.errors:
        _point_best(prefix, entry)
    note_start(prefix, entry, anew)


def note_start(prefix: str, entry: Entry, anew: bool) -> None:
    """Note which run has begun, before it has a checkpoint: from now on it is the one to resume.

    Removes the arrays of a checkpoint that an earlier run was killed in writing, which its pointer tells of.
    """
    _remove_orphans(prefix)
    _point_latest(prefix, entry, None if anew else entry.name)


def announce(prefix: str, entry: Entry, ready: Mapping[str, Path]) -> Entry:
    """Note that the files of a checkpoint, ``ready`` by their suffix, are about to take their places; the entry with
    their digests. So what a run leaves that is killed before `write` is known to be its own.
    """
    digests = {suffix: entries.digest_file(path) for suffix, path in ready.items()}
    _point_latest(prefix, entry, latest(prefix), {WRITING: {"checkpoint": entry.name, "digests": digests}})
    return dataclasses.replace(entry, digests=digests)


def write(prefix: str, entry: Entry) -> None:
    """Write the entry of a checkpoint that was announced and whose other files are there, and point to it."""
    entries.write_entry(entries.file(prefix, entry.name, "json"), entry)
    _point_latest(prefix, entry, entry.name)


def vouches(prefix: str, name: str) -> bool:
    """Whether the files of a checkpoint are known to be of a run of ours: it has an entry, or was announced."""
    return entries.file(prefix, name, "json").exists() or _is_announced(prefix, name, "params")


def knows_run(prefix: str) -> bool:
    """Whether a run of ours has begun at a prefix."""
    return _pointer(prefix, "latest").get("run") is not None or bool(all_names(prefix))


def _is_announced(prefix: str, name: str, suffix: str) -> bool:
    """Whether a file is the one that was about to take its place when a run was killed."""
    writing, path = _pointer(prefix, "latest").get(WRITING), entries.file(prefix, name, suffix)
    if not isinstance(writing, dict) or writing.get("checkpoint") != name or not path.is_file():
        return False
    return entries.digest_file(path) == writing.get("digests", {}).get(suffix)


def write_validation(prefix: str, entry: Entry) -> None:
    """Add the validation of ``entry`` to its checkpoint, and point to the best one."""
    written = entries.read_found(prefix, entry.name)
    entries.write_entry(
        entries.file(prefix, entry.name, "json"), dataclasses.replace(written, validation=entry.validation)
    )
    _point_best(prefix, entry)


def _point_best(prefix: str, entry: Entry) -> None:
    pointer = {"run": entry.run, "checkpoint": entry.best, "top-1 error, %": round(min(entry.errors.values()), 4)}
    write_pointer(entries.file(prefix, "best", "json"), pointer)


def find_whole(prefix: str) -> str | None:
    """The name of the newest checkpoint that is there as it was written."""
    for entry in newest(prefix):
        with suppress(UserError):
            entries.verify(prefix, entry)
            return entry.name
    return None


def names(prefix: str) -> list[str]:
    """The names of the checkpoints with an entry, the newest first; of those that the latest run wrote, if it is known.

    One whose entry is damaged is among them: `entries.read` tells. Raises UserError where the latest run is not known
    any more.
    """
    found = all_names(prefix)
    run = _pointer(prefix, "latest").get("run")
    if run is not None:
        return [name for name in found if is_of(prefix, name, run)]
    if len({_run(prefix, name) for name in found} - {None}) > 1:
        raise UserError(
            f"{prefix}-latest.json is missing or damaged, and there are checkpoints of several runs: move some away"
        )
    return found


def all_names(prefix: str) -> list[str]:
    """The names of the checkpoints of any run that have an entry, the newest first."""
    pattern = re.compile(re.escape(Path(prefix).name) + rf"-({entries.NAME})\.json")
    folder = Path(prefix).parent
    matches = map(pattern.fullmatch, (path.name for path in folder.iterdir())) if folder.is_dir() else ()
    found = [match[1] for match in matches if match]
    return sorted(found, key=entries.order, reverse=True)


def best(prefix: str) -> str | None:
    """The name of the checkpoint with the lowest validation error."""
    return _named(_pointer(prefix, "best"))


def latest(prefix: str) -> str | None:
    """The name of the newest checkpoint, or None where its pointer is missing or damaged."""
    return _named(_pointer(prefix, "latest"))


def _named(pointer: Mapping[str, Any]) -> str | None:
    """The checkpoint that a pointer names, if that is the name of one."""
    name = pointer.get("checkpoint")
    return name if isinstance(name, str) and re.fullmatch(entries.NAME, name) else None


def prune(prefix: str, entry: Entry, keep: int | None) -> None:
    """Remove what ``entry``, just written, makes superfluous: epochs beyond ``keep`` but the best one, and checkpoints
    within epochs, but for the one before where ``entry`` is one.
    """
    found = names(prefix)
    within = [name for name in found if "-" in name]
    epochs = [name for name in found if "-" not in name]
    gone = within[2:] if entry.batch else within
    if keep is not None:
        gone += [name for name in epochs[keep:] if name != entry.best]
    for name in gone:
        _remove(prefix, name)


def _remove_orphans(prefix: str) -> None:
    """Remove the arrays of a run that was killed before it could write their entry."""
    writing = _pointer(prefix, "latest").get(WRITING)
    name = _named(writing) if isinstance(writing, dict) else None
    if name and not entries.file(prefix, name, "json").exists():
        for suffix in entries.ARRAYS:
            if _is_announced(prefix, name, suffix):
                entries.file(prefix, name, suffix).unlink(missing_ok=True)


def _remove(prefix: str, name: str) -> None:
    for suffix in (*entries.ARRAYS, "json"):  # the entry last: arrays without one are taken for a stranger's
        entries.file(prefix, name, suffix).unlink(missing_ok=True)


def newest(prefix: str) -> Iterator[Entry]:
    """The entries that can be read, the newest first."""
    for name in names(prefix):
        with suppress(UserError):
            yield entries.read_found(prefix, name)


def arguments(prefix: str) -> dict[str, Any]:
    """The flags that the run to resume was given; none where there is none."""
    found = _pointer(prefix, "latest").get("arguments")
    return found or next((entry.arguments for entry in newest(prefix)), {})


def _point_latest(prefix: str, entry: Entry, name: str | None, more: Mapping[str, Any] = MappingProxyType({})) -> None:
    pointer = {"run": entry.run, "checkpoint": name, "arguments": entry.arguments, **more}
    write_pointer(entries.file(prefix, "latest", "json"), pointer)


def is_of(prefix: str, name: str, run: str) -> bool:
    """Whether a checkpoint is one of ``run``, or its entry cannot be read."""
    return _run(prefix, name) in (run, None)


def _run(prefix: str, name: str) -> str | None:
    with suppress(UserError):
        return entries.read_found(prefix, name).run
    return None


def _pointer(prefix: str, name: str) -> dict[str, Any]:
    """What a pointer says; nothing where it is missing or damaged, or names a checkpoint of another run as the latest
    one of its own.
    """
    content = read_pointer(entries.file(prefix, name, "json"))
    run, checkpoint = content.get("run"), _named(content)
    if name == "latest" and run is not None and checkpoint is not None and not is_of(prefix, checkpoint, run):
        return {}
    return content
