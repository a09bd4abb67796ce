"""Where a run starts: from random weights, where it stopped, or from an epoch with new values."""

from __future__ import annotations

import argparse
import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, ledger
from mxnet_resnet.runs.checkpoint import Arrays
from mxnet_resnet.runs.ledger import Entry

MACHINE = "machine"  # the settings that a run may be resumed with other values of
Params = tuple[Arrays, Arrays]


@dataclass
class Start:
    """Where a run starts.

    Attributes:
        entry: the position, and what was measured before.
        params: the (parameters, auxiliary states), or None to draw them at random.
        state: of the optimizer.
        notes: sentences for the log.
        anew: whether a run begins, rather than goes on.
    """

    entry: Entry
    params: Params | None = None
    state: Arrays = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    anew: bool = True

    @property
    def unvalidated(self) -> bool:
        """Whether the run stopped between the end of an epoch's training and of its validation."""
        entry = self.entry
        return not self.anew and not entry.batch and str(entry.epoch - 1) not in entry.validation


def find(
    options: argparse.Namespace,
    shapes: Mapping[str, tuple[int, ...]],
    settings: dict[str, object],
    steps_per_epoch: int,
) -> Start:
    """The start that the options ask for, of a net whose arrays have these shapes by name.

    Raises UserError where it does not fit the run that they describe.
    """
    start = _resumed(options, settings) if options.resume else None
    if start is None:
        start = _from_epoch(options, settings, steps_per_epoch) if options.retrain else Start(_fresh(options, settings))
        if options.resume:
            start.notes.insert(0, f"There is no checkpoint of {options.model_prefix} to resume: starting")
        elif not options.retrain and ledger.all_names(options.model_prefix):
            start.notes.append(f"There are checkpoints of another run of {options.model_prefix}: they are written over")
    if start.params is not None:
        checkpoint.check_fit(shapes, *start.params)
    return start


def _fresh(options: argparse.Namespace, settings: dict[str, object]) -> Entry:
    return Entry(uuid.uuid4().hex, arguments=options.arguments, settings=settings)


def _resumed(options: argparse.Namespace, settings: dict[str, object]) -> Start | None:
    """The newest whole checkpoint, or None where there is none at all."""
    prefix, notes = options.model_prefix, []
    names = ledger.names(prefix)
    for name in names:
        try:
            entry = ledger.read(prefix, name)
            found = checkpoint.load_run(prefix, entry)
        except UserError as error:
            notes.append(f"Checkpoint {name} is passed over: {error}")
            continue
        changed = ledger.differences(entry.settings, settings)
        tolerated = [change for change in changed if change.startswith(f"{MACHINE} ")]
        changed = [change for change in changed if change not in tolerated]
        if changed:
            raise UserError(
                f"{prefix}-{name} cannot be resumed with other values ({'; '.join(changed)}): give those of the run, "
                "or start from one of its epochs with --retrain --model-load-epoch"
            )
        notes += [f"Not to the bit the same run: {change}" for change in tolerated]
        notes += _momentum_notes(options, entry, found.momentum)
        notes.append(f"Resuming {prefix} after {entry.epoch} epochs and {entry.batch} batches, {entry.step} steps")
        entry = dataclasses.replace(entry, arguments=options.arguments, settings=settings)
        return Start(entry, (found.params, found.statistics), found.momentum, notes, anew=False)
    if names:
        raise UserError(f"no checkpoint of {prefix} is whole: {notes[0]}")
    return None


def _from_epoch(options: argparse.Namespace, settings: dict[str, object], steps_per_epoch: int) -> Start:
    """A new run from --model-load-epoch of an earlier one, or from someone's parameters."""
    prefix, epoch = options.model_prefix, options.model_load_epoch
    begun = _fresh(options, settings)
    begun.epoch, begun.step = epoch, epoch * steps_per_epoch
    if options.load_params is not None:
        params = checkpoint.read_params(options.load_params)
        return Start(begun, params, notes=[f"Starting from the parameters in {options.load_params}"])
    start, before = Start(begun, checkpoint.load_params(prefix, epoch)), None
    try:
        before = ledger.read(prefix, begun.name)
    except UserError as error:
        start.notes.append(f"Nothing but parameters is taken from epoch {epoch}: {error}")
    if before is not None:
        ledger.check(prefix, before, "params")
    if before is None:
        start.notes.append(f"Starting from {checkpoint.params_path(prefix, epoch)}, without momentum")
        return start
    begun.validation = before.validation
    changed = ledger.differences(before.settings, settings)
    others = ("batch size ", "training records ")
    if "lr" not in options.given and not any(change.startswith(others) for change in changed):
        begun.step = before.step  # where the schedule stood, whatever --num-examples makes of an epoch in it
    start.notes.append(f"Starting from epoch {epoch}. Changed: {'; '.join(changed) or 'nothing'}")
    if options.reset_optimizer:
        start.notes.append("The momentum starts from zero, as asked")
        return start
    try:
        ledger.check(prefix, before, "state")
        start.state = checkpoint.load_state(prefix, begun.name)
    except UserError as error:
        start.notes.append(f"The momentum starts from zero: {error}")
        return start
    start.notes += _momentum_notes(options, before, start.state)
    return start


def _momentum_notes(options: argparse.Namespace, entry: Entry, state: Arrays) -> list[str]:
    """Whether the momentum of a checkpoint is lost, as a sentence or none."""
    lost = options.mom and entry.step and (options.kv_store == "dist_async" or not state)
    return ["The momentum starts from zero, since the servers of dist_async keep it to themselves"] if lost else []
