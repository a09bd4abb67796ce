"""What each checkpoint of a run is: ``PREFIX-0007.json`` beside ``.params`` and ``.state``, and two pointers.

``PREFIX-latest.json`` names the run and its newest checkpoint, ``PREFIX-best.json`` the one with the lowest validation
error. The entry of a checkpoint is written last, with the digests of its files: a checkpoint is whole if they agree.
Each of these files has a digest of what it says itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mxnet_resnet.base import files, sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.runs import identity, params
from mxnet_resnet.runs.pointers import read_pointer, write_pointer

NAME = r"\d{4,9}(-\d{5,9})?"
ARRAYS = ("params", "state")  # the files of a checkpoint that its entry vouches for
ENTRY = "entry"
WRITING = "writing"  # in PREFIX-latest.json: the checkpoint whose files are about to take their places


class LaterVersionError(UserError):
    """An entry that a later version of this program wrote: not damaged, and not to be written over."""


@dataclass
class Entry:
    """A checkpoint, or where a run is.

    Attributes:
        run: identity of the run, the same after each resume.
        epoch: epochs done.
        batch: batches done of the epoch after these.
        step: updates of the weights.
        arguments: the flags that were given, as ``{"batch-size": "64", "memonger": True}``.
        settings: all that the weights follow from, under the keys of identity.FIELDS.
        meters: the sums of the metrics of the epoch begun.
        validation: metrics by the number of the epoch, from 0, as text.
        loss_scale: the (scale, steps since it changed) of float16.
        digests: SHA-256 of the files, by their suffix, and in a file of the entry itself.
        schema: of the settings; entries of older ones are read as if they were of this one.
    """

    run: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    meters: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    loss_scale: list[float] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    schema: int = identity.SCHEMA

    @property
    def name(self) -> str:
        """``"0007"`` after seven epochs, ``"0007-00123"`` after 123 batches more."""
        return f"{self.epoch:04d}-{self.batch:05d}" if self.batch else f"{self.epoch:04d}"

    @property
    def errors(self) -> dict[int, float]:
        """Top-1 validation errors in percent, by epoch."""
        return {int(epoch): 100 * (1 - metrics["accuracy"]) for epoch, metrics in self.validation.items()}

    @property
    def best(self) -> str:
        """The name of the checkpoint after the epoch with the lowest error."""
        errors = self.errors
        return f"{min(errors, key=errors.__getitem__) + 1:04d}"


def file(prefix: str, name: str, suffix: str) -> Path:
    """A file of the checkpoint called ``name``."""
    return Path(f"{prefix}-{name}.{suffix}")


def order(name: str) -> list[int]:
    """The [epochs, batches] that a checkpoint's name tells."""
    epoch, _, batch = name.partition("-")
    return [int(epoch), int(batch or 0)]


def begin(prefix: str, entry: Entry, anew: bool) -> None:
    """Note that a run starts, ``anew`` or to go on: from now on it is the one to resume.

    Removes what only an earlier run could use, and what one that was killed had half written.
    """
    for path, rest in list(files.abandoned(Path(prefix))):
        if re.fullmatch(rf"-(symbol|latest|best|{NAME})", rest):
            path.unlink(missing_ok=True)
    if anew:
        for name in all_names(prefix):
            if "-" in name:
                _remove(prefix, name)
        file(prefix, "best", "json").unlink(missing_ok=True)
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
    digests = {suffix: _digest(path) for suffix, path in ready.items()}
    _point_latest(prefix, entry, latest(prefix), {WRITING: {"checkpoint": entry.name, "digests": digests}})
    return dataclasses.replace(entry, digests=digests)


def write(prefix: str, entry: Entry) -> None:
    """Write the entry of a checkpoint that was announced and whose other files are there, and point to it."""
    _write_entry(file(prefix, entry.name, "json"), entry)
    _point_latest(prefix, entry, entry.name)


def vouches(prefix: str, name: str) -> bool:
    """Whether the files of a checkpoint are known to be of a run of ours: it has an entry, or was announced."""
    return file(prefix, name, "json").exists() or _is_announced(prefix, name, "params")


def knows_run(prefix: str) -> bool:
    """Whether a run of ours has begun at a prefix."""
    return _pointer(prefix, "latest").get("run") is not None or bool(all_names(prefix))


def _is_announced(prefix: str, name: str, suffix: str) -> bool:
    """Whether a file is the one that was about to take its place when a run was killed."""
    writing, path = _pointer(prefix, "latest").get(WRITING), file(prefix, name, suffix)
    if not isinstance(writing, dict) or writing.get("checkpoint") != name or not path.is_file():
        return False
    return _digest(path) == writing.get("digests", {}).get(suffix)


def write_validation(prefix: str, entry: Entry) -> None:
    """Add the validation of ``entry`` to its checkpoint, and point to the best one."""
    written = read_found(prefix, entry.name)
    _write_entry(file(prefix, entry.name, "json"), dataclasses.replace(written, validation=entry.validation))
    _point_best(prefix, entry)


def _point_best(prefix: str, entry: Entry) -> None:
    pointer = {"run": entry.run, "checkpoint": entry.best, "top-1 error, %": round(min(entry.errors.values()), 4)}
    write_pointer(file(prefix, "best", "json"), pointer)


def _write_entry(path: Path, entry: Entry) -> None:
    content = dataclasses.asdict(entry)
    content["digests"] = {**entry.digests, ENTRY: _digest_entry(content)}
    _write(path, content)


def _digest_entry(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that an entry says, but for itself."""
    digests = {suffix: digest for suffix, digest in content["digests"].items() if suffix != ENTRY}
    return hashlib.sha256(json.dumps({**content, "digests": digests}, sort_keys=True).encode()).hexdigest()


def read(prefix: str, name: str) -> Entry | None:
    """The entry of a checkpoint; None where there is none. Raises UserError where it is damaged."""
    path = file(prefix, name, "json")
    if not path.exists():
        return None
    try:
        content = json.loads(sources.read(path, "").decode())
        expected = _digest_entry(content)
        if content["digests"].get(ENTRY, expected) != expected:
            raise ValueError
        return _as_entry(content, path)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged") from error


def read_found(prefix: str, name: str) -> Entry:
    """The entry of a checkpoint that was there. Raises UserError where it is damaged, or has gone since."""
    entry = read(prefix, name)
    if entry is None:
        raise UserError(f"{file(prefix, name, 'json')} is gone")
    return entry


def _as_entry(content: dict[str, Any], path: Path) -> Entry:
    """An entry of this schema or an older one. Raises UserError for a newer one, and more for a damaged one."""
    schema = content.get("schema", 1)
    if type(schema) is not int or schema > identity.SCHEMA:
        raise LaterVersionError(f"{path} is of a later version of this program: update it")
    entry = Entry(**content)
    kinds = {name: type(value) for name, value in vars(Entry("")).items() if value is not None}
    if any(type(getattr(entry, name)) is not kind for name, kind in kinds.items()):
        raise ValueError
    return dataclasses.replace(entry, settings=identity.migrate(entry.settings, schema), schema=identity.SCHEMA)


def verify(prefix: str, entry: Entry, *suffixes: str) -> None:
    """Raise UserError unless the files of a checkpoint, or those with ``suffixes``, are there as they were written."""
    for suffix in suffixes or ARRAYS:
        path = file(prefix, entry.name, suffix)
        if not path.is_file():
            raise UserError(f"{path} is missing")
        with sources.explaining(path, ""):
            if not params.begins_well(path) or _digest(path) != entry.digests.get(suffix):
                raise UserError(f"{path} is damaged")


def check_written(path: Path) -> None:
    """Raise UserError where an entry lies beside a file of a checkpoint, or beside the one that a link leads to, and
    vouches for other bytes, or is damaged.
    """
    for name in dict.fromkeys((path, Path(os.path.realpath(path)))):
        _check_written(name)


def _check_written(path: Path) -> None:
    entry = path.with_suffix(".json")
    if path.suffix[1:] not in ARRAYS or not re.search(rf"-{NAME}$", path.stem) or not entry.exists():
        return
    try:
        content = json.loads(sources.read(entry, "").decode())
        expected = content["digests"][path.suffix[1:]] if isinstance(content, dict) and "run" in content else None
    except UserError:
        raise
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(
            f"{entry}, which tells whether {path.name} is whole, is damaged: move it away to do without"
        ) from error
    if expected is not None and not (params.begins_well(path) and _digest(path) == expected):
        raise UserError(f"{path} is damaged: it is not what {entry.name} says was written")


def find_whole(prefix: str) -> str | None:
    """The name of the newest checkpoint that is there as it was written."""
    for entry in newest(prefix):
        with suppress(UserError):
            verify(prefix, entry)
            return entry.name
    return None


def names(prefix: str) -> list[str]:
    """The names of the checkpoints with an entry, the newest first; of those that the latest run wrote, if it is known.

    One whose entry is damaged is among them: `read` tells. Raises UserError where the latest run is not known any more.
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
    pattern = re.compile(re.escape(Path(prefix).name) + rf"-({NAME})\.json")
    folder = Path(prefix).parent
    matches = map(pattern.fullmatch, (path.name for path in folder.iterdir())) if folder.is_dir() else ()
    found = [match[1] for match in matches if match]
    return sorted(found, key=order, reverse=True)


def best(prefix: str) -> str | None:
    """The name of the checkpoint with the lowest validation error."""
    return _named(_pointer(prefix, "best"))


def latest(prefix: str) -> str | None:
    """The name of the newest checkpoint, or None where its pointer is missing or damaged."""
    return _named(_pointer(prefix, "latest"))


def _named(pointer: Mapping[str, Any]) -> str | None:
    """The checkpoint that a pointer names, if that is the name of one."""
    name = pointer.get("checkpoint")
    return name if isinstance(name, str) and re.fullmatch(NAME, name) else None


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
    if name and not file(prefix, name, "json").exists():
        for suffix in ARRAYS:
            if _is_announced(prefix, name, suffix):
                file(prefix, name, suffix).unlink(missing_ok=True)


def _remove(prefix: str, name: str) -> None:
    for suffix in (*ARRAYS, "json"):  # the entry last: arrays without one are taken for a stranger's
        file(prefix, name, suffix).unlink(missing_ok=True)


def newest(prefix: str) -> Iterator[Entry]:
    """The entries that can be read, the newest first."""
    for name in names(prefix):
        with suppress(UserError):
            yield read_found(prefix, name)


def arguments(prefix: str) -> dict[str, Any]:
    """The flags that the run to resume was given; none where there is none."""
    found = _pointer(prefix, "latest").get("arguments")
    return found or next((entry.arguments for entry in newest(prefix)), {})


def _point_latest(prefix: str, entry: Entry, name: str | None, more: Mapping[str, Any] = MappingProxyType({})) -> None:
    pointer = {"run": entry.run, "checkpoint": name, "arguments": entry.arguments, **more}
    write_pointer(file(prefix, "latest", "json"), pointer)


def is_of(prefix: str, name: str, run: str) -> bool:
    """Whether a checkpoint is one of ``run``, or its entry cannot be read."""
    return _run(prefix, name) in (run, None)


def _run(prefix: str, name: str) -> str | None:
    with suppress(UserError):
        return read_found(prefix, name).run
    return None


def _pointer(prefix: str, name: str) -> dict[str, Any]:
    """What a pointer says; nothing where it is missing or damaged, or names a checkpoint of another run as the latest
    one of its own.
    """
    content = read_pointer(file(prefix, name, "json"))
    run, checkpoint = content.get("run"), _named(content)
    if name == "latest" and run is not None and checkpoint is not None and not is_of(prefix, checkpoint, run):
        return {}
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
