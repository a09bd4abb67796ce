"""From the settings to runs that are ready to begin, whatever engine computes; train/run.py runs them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from mxnet_resnet.base import environment, files, interruption
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Wish
from mxnet_resnet.data.loading import Crew
from mxnet_resnet.data.processes import loading_with
from mxnet_resnet.data.stored import StoredEpochs
from mxnet_resnet.engines.base import Devices, Engine, Group, Model, TrainingSpec
from mxnet_resnet.runs import checkpoint, metrics
from mxnet_resnet.runs.start import Start, find_start
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.checks import check_reader, check_records, check_same, count_steps, note_records, share_batch
from mxnet_resnet.train.identity import identify, identify_machine, read_threads
from mxnet_resnet.train.reading import Summaries, choose_crew


@dataclass(frozen=True)
class Place:
    """Where runs take place: who computes, on what, together with whom, and on which records.

    ``crew`` loads the records, where threads do not; ``notes`` are sentences for the log; ``stored`` are the images
    that all of the runs read from memory.
    """

    engine: Engine
    devices: Devices
    group: Group
    summaries: Summaries
    crew: Crew | None = None
    notes: Sequence[str] = ()
    stored: StoredEpochs = field(default_factory=StoredEpochs)


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that is to begin; nothing of it is written yet.

    Attributes:
        spec: of the net, as the engine gets it.
        begin: where it starts.
        notes, doubts, versions: for the log, and the report; doubts are of records that may not go together.
    """

    place: Place
    settings: RunSettings
    rate: Schedule
    spec: TrainingSpec
    model: Model
    begin: Start
    notes: list[str]
    doubts: list[str]
    versions: dict[str, str]


@contextmanager
def planning(runs: Sequence[RunSettings], engine: Engine) -> Iterator[tuple[list[Plan], Wish]]:
    """Plans of runs that differ in their seed and prefix alone, whose prefixes are theirs within the block.

    Raises UserError where the settings, the data and the runs to go on with do not fit each other.
    """
    first = runs[0]
    deadline = math.inf if first.max_minutes is None else time.monotonic() + 60 * first.max_minutes
    resumed = (read_threads(settings.saving.prefix) for settings in runs if settings.start.resume)
    threads = next((found for found in resumed if found is not None), None)
    told = engine.prepare(first.devices.store, first.devices.cpus, threads, first.devices.deterministic)
    devices = engine.choose_devices(first.devices.gpus, first.devices.cpus)
    check_reader(first, engine)
    metrics.check_tensorboard(first.saving.tensorboard)
    with engine.join(first.devices.store, devices) as group, ExitStack() as stack:
        shares = [share_batch(settings, group.local_count) for settings in runs]
        workers = choose_crew(shares[0], group)
        crew = stack.enter_context(loading_with(workers))
        told += [f"{workers} processes load the images: --data-workers sets another number"] if workers else []
        place = Place(engine, devices, group, check_records(shares[0], group.count), crew, told)
        if group.rank == 0:  # before it is looked where a run stands: another command may be about to end it
            for settings in shares:
                check_place(settings.saving.prefix)
                stack.enter_context(files.locked(checkpoint.lock_path(settings.saving.prefix)))
        plans = [plan_run(settings, place) for settings in shares]
        yield plans, stack.enter_context(interruption.watching(deadline))


def check_place(prefix: str) -> None:
    """Raise UserError where checkpoints cannot be written at a prefix."""
    graph = checkpoint.graph_path(prefix)
    if files.check_writable(graph, f"checkpoints to {graph.parent}").stream:
        raise UserError(f"cannot write {graph}: it is a pipe or a device")  # which would be waited for


def plan_run(settings: RunSettings, place: Place) -> Plan:
    """Where a run starts, and with what. Raises UserError where that does not fit what is on disk."""
    engine, devices, group, summaries = place.engine, place.devices, place.group, place.summaries
    steps_per_epoch = count_steps(settings, summaries[settings.data.train].count, group.count)
    rate = settings.rate.schedule(steps_per_epoch, settings.batch_size * group.count)
    spec = training_spec(settings, rate, settings.epochs * steps_per_epoch)
    model = engine.model(settings.net.plan, spec, devices)
    settings_now = identify(settings, rate, summaries, group.count)
    settings_now.update(identify_machine(engine, model, devices, group))
    begin = find_start(settings.start, settings_now, model.shapes, steps_per_epoch, model.graph)
    check_same(group, json.dumps([settings_now, begin.entry.name, begin.entry.step, begin.anew]))
    model_notes = model.prepare()
    notes = [note for note in (engine.reason, devices.note) if note]
    notes += [*place.notes, rate.describe(steps_per_epoch), *model_notes, *begin.notes]
    versions = {**environment.versions(), **engine.versions()}
    return Plan(place, settings, rate, spec, model, begin, notes, note_records(settings, summaries), versions)


def training_spec(settings: RunSettings, rate: Schedule, steps: int = 0) -> TrainingSpec:
    """What the engine has to know; ``steps`` are those of the whole run."""
    return TrainingSpec(
        classes=settings.data.classes,
        image_shape=settings.data.image_shape,
        batch_size=settings.batch_size,
        schedule=rate,
        seed=settings.seed,
        dtype=settings.devices.dtype,
        optimizer=settings.optimizer.name,
        momentum=settings.optimizer.momentum,
        weight_decay=settings.optimizer.weight_decay,
        decayed=settings.optimizer.decayed,
        label_smoothing=settings.optimizer.label_smoothing,
        soft_labels=bool(settings.data.mixup),
        zero_init_residual=settings.net.zero_init_residual,
        bn_momentum=settings.net.bn_momentum,
        workspace=settings.net.workspace,
        memonger=settings.devices.memonger,
        memonger_budget=settings.devices.memonger_budget,
        deterministic=settings.devices.deterministic,
        compilation=settings.devices.compilation,
        steps=steps,
    )
