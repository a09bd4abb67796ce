"""Where a run starts: from random weights, where it stopped, or from an epoch with new values."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, entries, identity, ledger, ownership
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.runs.entries import Entry, LaterVersionError
from mxnet_resnet.runs.identity import Identity

# With other values of these an epoch has other steps: a schedule begins where the epoch does.
OF_STEPS = {"batch_size", "data.train"}


@dataclass(frozen=True)
class Wanted:
    """The start that was asked for.

    Attributes:
        prefix: of the checkpoints.
        resume: go on where the run with this prefix stopped, if there is one.
        retrain: begin a run from ``epoch`` of an earlier one, or from ``params``, a file, as if after ``epoch``.
        epoch: to load, or None.
        reset_optimizer: forget the momentum.
        new_rate: the learning rate was given, and counts from ``epoch`` on.
        momentum: of the optimizer; 0: there is none to lose.
        keeps_momentum: whether checkpoints have it.
        epochs: of the run in all.
        arguments: the flags that were given, for the ledger.
        remembered: those of them that earlier commands of the run gave, and this one did not.
    """

    prefix: str
    resume: bool
    retrain: bool
    epoch: int | None
    params: Path | None
    reset_optimizer: bool
    new_rate: bool
    momentum: float
    keeps_momentum: bool
    epochs: int
    arguments: Mapping[str, Any]
    remembered: Mapping[str, Any]


@dataclass
class Start:
    """Where a run starts.

    Attributes:
        entry: the position, and what was measured before.
        snapshot: the weights and the state of the optimizer, or None to draw the weights at random.
        notes: sentences for the log.
        anew: whether a run begins, rather than goes on.
    """

    entry: Entry
    snapshot: Snapshot | None = None
    notes: list[str] = field(default_factory=list)
    anew: bool = True

    @property
    def unvalidated(self) -> bool:
        """Whether the run stopped between the end of an epoch's training and of its validation."""
        entry = self.entry
        return not self.anew and not entry.batch and str(entry.epoch - 1) not in entry.validation


def find_start(
    wanted: Wanted, settings: Identity, shapes: Mapping[str, tuple[int, ...]], steps_per_epoch: int, graph: str
) -> Start:
    """The start that is wanted, of a run with these settings, whose parameters and statistics have these shapes.

    ``graph`` is what it writes. Raises UserError where what is on disk does not fit the run, or would be lost.
    """
    prefix = wanted.prefix
    start = _resume(wanted, settings) if wanted.resume else None
    if start is None:
        start = _retrain(wanted, settings, steps_per_epoch) if wanted.retrain else Start(_begin(wanted, settings))
        if wanted.resume and not wanted.retrain:
            _check_none(prefix)
        if wanted.resume:
            start.notes.insert(0, f"There is no checkpoint of {prefix} to resume: starting")
        if not wanted.retrain or wanted.params is not None:
            start.notes += ownership.check_free(prefix, settings, wanted.epochs, graph, wanted.arguments)
    if not start.anew or (wanted.retrain and wanted.params is None):
        start.notes += ownership.describe_superseded(prefix, start.entry, wanted.epochs)
    ownership.check_ahead(prefix, start.entry.epoch, wanted.epochs)
    if start.snapshot is not None:
        checkpoint.check_fit(shapes, start.snapshot.params, start.snapshot.statistics)
    return start


def _check_none(prefix: str) -> None:
    """Raise UserError where there are checkpoints, though none of the run that is to be resumed."""
    if names := ledger.all_names(prefix)[::-1]:
        raise UserError(
            f"{prefix}-latest.json names a run that has no checkpoint, and there are {ownership.count(names)} of "
            "another: without --resume a run begins anew; to resume that of the checkpoints, remove this file"
        )


def _begin(wanted: Wanted, settings: Identity) -> Entry:
    return Entry(uuid.uuid4().hex, arguments=dict(wanted.arguments), settings=settings)


def _resume(wanted: Wanted, settings: Identity) -> Start | None:
    """The newest whole checkpoint, or None where there is none at all."""
    prefix = wanted.prefix
    notes: list[str] = []
    names = ledger.names(prefix)
    for name in names:
        try:
            entry = entries.read_found(prefix, name)
            snapshot = checkpoint.load_run(prefix, entry)
        except LaterVersionError:  # to go on from an older one would write over it
            raise
        except UserError as error:
            notes.append(f"Checkpoint {name} is passed over: {error}")
            continue
        changes = identity.compare(entry.settings, settings)
        others = [identity.describe(change) for change in changes if not change.of_machine]
        if others:
            raise UserError(
                f"{prefix}-{name} cannot be resumed with other values ({'; '.join(others)}): give those of the run, "
                "or start from one of its epochs with --retrain --model-load-epoch"
            )
        notes += [f"Not to the bit the same run: {identity.describe(change)}" for change in changes]
        notes += _tell_lost_momentum(wanted, entry, snapshot)
        notes.append(f"Resuming {prefix} after {entry.epoch} epochs and {entry.batch} batches, {entry.step} steps")
        notes += _tell_remembered(wanted, entry)
        entry = dataclasses.replace(entry, arguments=dict(wanted.arguments), settings=settings)
        return Start(entry, snapshot, notes, anew=False)
    if names:
        raise UserError(f"no checkpoint of {prefix} is whole: {notes[0]}")
    return None


def _tell_remembered(wanted: Wanted, entry: Entry) -> list[str]:
    """What holds because an earlier command said so, and whether anything is left to train."""
    notes = []
    if wanted.remembered:
        flags = " ".join(map(write_flag, wanted.remembered, wanted.remembered.values()))
        notes.append(f"Earlier commands of this run gave, and so it goes on with: {flags}")
    if entry.epoch >= wanted.epochs:
        notes.append(f"Nothing is left to train of --epochs {wanted.epochs}: give more of them to train on")
    return notes


def write_flag(name: str, value: object) -> str:
    """A flag and its value as an entry keeps them, as a command line has them."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"


def _retrain(wanted: Wanted, settings: Identity, steps_per_epoch: int) -> Start:
    """A new run from an epoch of an earlier one, or from someone's parameters."""
    prefix, epoch, begun = wanted.prefix, wanted.epoch, _begin(wanted, settings)
    assert epoch is not None  # settings/run.py asks for it with --retrain
    begun.epoch, begun.step = epoch, epoch * steps_per_epoch
    if wanted.params is not None:
        snapshot = Snapshot(*checkpoint.read_params(wanted.params))
        return Start(begun, snapshot, [f"Starting from the parameters in {wanted.params}"])
    path, snapshot = checkpoint.params_path(prefix, epoch), Snapshot(*checkpoint.load_params(prefix, epoch))
    start, before = Start(begun, snapshot), None
    try:
        before = entries.read(prefix, begun.name)
    except UserError as error:
        start.notes.append(f"Nothing but parameters is taken from checkpoint {begun.name}: {error}")
    if before is None:
        start.notes.append(f"Starting from {path}, without momentum")
        return start
    entries.verify(prefix, before, "params")
    begun.validation = before.validation
    changes = identity.compare(before.settings, settings)
    if not wanted.new_rate and not OF_STEPS & {change.key for change in changes}:
        begun.step = before.step  # where the schedule stood, whatever --num-examples makes of an epoch in it
    changed = "; ".join(map(identity.describe, changes)) or "nothing"
    start.notes.append(
        f"Starting from {checkpoint.params_path(prefix, epoch)}, after {epoch} epochs. Changed: {changed}"
    )
    _take_momentum(start, snapshot, before, wanted)
    return start


def _take_momentum(start: Start, snapshot: Snapshot, before: Entry, wanted: Wanted) -> None:
    """Go on with the momentum of an earlier run, or note why not. Changes ``start``."""
    if wanted.reset_optimizer:
        start.notes.append("The momentum starts from zero, as asked")
        return
    try:
        entries.verify(wanted.prefix, before, "state")
        momentum = checkpoint.load_state(wanted.prefix, before.name)
    except UserError as error:
        start.notes.append(f"The momentum starts from zero: {error}")
        return
    start.snapshot = dataclasses.replace(snapshot, momentum=momentum)
    start.notes += _tell_lost_momentum(wanted, before, start.snapshot)


def _tell_lost_momentum(wanted: Wanted, entry: Entry, snapshot: Snapshot) -> list[str]:
    """Whether the momentum of a checkpoint is lost, as a sentence or none."""
    lost = wanted.momentum and entry.step and not (wanted.keeps_momentum and snapshot.momentum)
    return ["The momentum starts from zero, since the servers of dist_async keep it to themselves"] if lost else []
