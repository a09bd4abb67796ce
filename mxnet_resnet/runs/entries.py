"""What a checkpoint of a run is: ``PREFIX-0007.json``, its entry, beside ``.params`` and ``.state``.

An entry holds the digests of these files, and one of what it says itself: a checkpoint is whole if they agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import identity, params
from mxnet_resnet.runs.pointers import digest_content, write_content

NAME = r"\d{4,9}(-\d{5,9})?"
ARRAYS = ("params", "state")  # the files of a checkpoint that its entry vouches for
ENTRY = "entry"


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


def write_entry(path: Path, entry: Entry) -> None:
    """Write an entry with its digest. Raises UserError where the system refuses."""
    content = dataclasses.asdict(entry)
    content["digests"] = {**entry.digests, ENTRY: _digest_entry(content)}
    write_content(path, content)


def _digest_entry(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that an entry says, but for itself."""
    digests = {suffix: digest for suffix, digest in content["digests"].items() if suffix != ENTRY}
    return digest_content({**content, "digests": digests})


def verify(prefix: str, entry: Entry, *suffixes: str) -> None:
    """Raise UserError unless the files of a checkpoint, or those with ``suffixes``, are there as they were written."""
    for suffix in suffixes or ARRAYS:
        path = file(prefix, entry.name, suffix)
        if not path.is_file():
            raise UserError(f"{path} is missing")
        with sources.explaining(path, ""):
            if not params.begins_well(path) or digest_file(path) != entry.digests.get(suffix):
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
    if expected is not None and not (params.begins_well(path) and digest_file(path) == expected):
        raise UserError(f"{path} is damaged: it is not what {entry.name} says was written")


def digest_file(path: Path) -> str:
    """SHA-256 of the bytes of a file. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
