"""Training: from the settings to a loop that runs, whatever engine computes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from mxnet_resnet.base import environment, files, interruption
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.datasets import OURS
from mxnet_resnet.engines.base import Devices, Engine, Group, Model, TrainingSpec
from mxnet_resnet.plot import report
from mxnet_resnet.runs import checkpoint, identity, ledger, logbook, metrics
from mxnet_resnet.runs.identity import Identity
from mxnet_resnet.runs.start import find_start
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.loop import Loop, Summaries, Surroundings


def train(settings: RunSettings, engine: Engine) -> None:
    """Train: checkpoints at ``settings.saving.prefix``, a log in ``settings.saving.log_dir``.

    Raises UserError before anything is written where the settings, the data and the run to go on with do not fit each
    other, and Interrupted after a signal.
    """
    engine.prepare(settings.devices.store, settings.devices.cpus)
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    check_reader(settings, engine)
    metrics.check_tensorboard(settings.saving.tensorboard)
    with engine.join(settings.devices.store, devices) as group:
        _train(share_batch(settings, group.local_count), engine, devices, group)


def _train(settings: RunSettings, engine: Engine, devices: Devices, group: Group) -> None:
    summaries = check_records(settings, group.count)
    steps_per_epoch = count_steps(settings, summaries[settings.data.train].count, group.count)
    rate = settings.rate.schedule(steps_per_epoch, settings.batch_size * group.count)
    model = engine.model(settings.net.plan, training_spec(settings, rate), devices)
    settings_now = identify(settings, rate, summaries, group.count)
    settings_now.update(identify_machine(engine, model, devices, group))
    begin = find_start(settings.start, settings_now, model.shapes, steps_per_epoch)
    _check_same(group, json.dumps([settings_now, begin.entry.name, begin.entry.step, begin.anew]))
    model_notes = model.prepare()
    graph = checkpoint.graph_path(settings.saving.prefix)
    files.check_writable(graph, f"checkpoints to {graph.parent}")

    log = _log_path(settings, group)
    append = settings.start.retrain or not begin.anew
    first = group.rank == 0
    lock = files.locked(Path(f"{settings.saving.prefix}-lock")) if first else contextlib.nullcontext()
    writing = metrics.writing(log.parent if first else None, append, settings.saving.tensorboard, begin.entry.epoch)
    with (
        lock,
        contextlib.nullcontext() if group.local_rank else logbook.writing(log, append),
        writing as metrics_file,
        logging_redirect_tqdm(),
        interruption.watching() as wish,
    ):
        notes = [note for note in (engine.reason, devices.note) if note]
        notes += [rate.describe(steps_per_epoch), *model_notes, *begin.notes]
        versions = {**environment.versions(), **engine.versions()}
        _log_header(settings, notes, summaries, versions, model.parameters)
        _warn_of_batch(settings, settings.batch_size * group.count)
        session = model.start(group, begin.snapshot, begin.entry.step)
        if first:
            ledger.begin(settings.saving.prefix, begin.entry, begin.anew)
        around = Surroundings(
            engine=engine,
            session=session,
            group=group,
            summaries=summaries,
            rate=rate,
            graph=model.graph,
            wish=wish,
            metrics=metrics_file,
        )
        loop = Loop(settings, around, begin)
        loop.run()
        if loop.confusions is not None:
            memory = {**environment.memory(), **engine.memory(devices)}
            subject = _describe(settings, notes, versions, memory)
            records = recordio.RecordFile(settings.data.val, summaries[settings.data.val].offsets)
            report.attempt(log.parent, subject, records, loop.confusions)


def training_spec(settings: RunSettings, rate: Schedule) -> TrainingSpec:
    """What the engine has to know."""
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
    )


def share_batch(settings: RunSettings, workers: int) -> RunSettings:
    """The settings of one of the workers that share a machine. Raises UserError where the batch cannot be dealt."""
    share, rest = divmod(settings.batch_size, workers)
    if rest:
        raise UserError(
            f"--batch-size {settings.batch_size} cannot be dealt to {workers} devices: take a multiple of {workers}"
        )
    return dataclasses.replace(settings, batch_size=share)


def check_reader(settings: RunSettings, engine: Engine) -> None:
    """Raise UserError where the engine has not the reader of training records that is asked for."""
    backend = settings.data.backend
    if backend != OURS and backend not in engine.readers:
        raise UserError(f"--data-backend {backend} is none of the engine {engine.name}: take {OURS}")


def _check_same(group: Group, text: str) -> None:
    if not group.all_same(text):
        raise UserError(
            "the workers do not start from the same: all need the same flags and records, and checkpoints in a folder "
            "that all machines share"
        )


def count_steps(settings: RunSettings, counted: int, workers: int) -> int:
    """The batches of each worker in an epoch, the last one filled up."""
    return -(-(settings.data.examples or counted) // (settings.batch_size * workers))


def check_records(settings: RunSettings, workers: int) -> Summaries:
    """What the record files hold. Raises UserError where they are damaged or do not fit the settings."""
    data, batch = settings.data, settings.batch_size * workers
    if data.backend != OURS and workers > 1:
        raise UserError(
            f"--data-backend {data.backend} deals records to workers unevenly: several need --data-backend {OURS}"
        )
    summaries: Summaries = {}
    # A large training image that does not decode ends the run where it is met; small ones are soon looked at, and
    # ImageRecordIter would take a padded one for grey.
    decoded = data.pad > 0
    for path, decoding in ((data.train, decoded), (data.later_train, decoded), (data.val, True)):
        if path is not None and path not in summaries:
            summaries[path] = recordio.scan(path, decoding)
            recordio.check_labels(path, summaries[path], data.classes)
            if path != data.val and summaries[path].count < batch:
                raise UserError(
                    f"{path} has {summaries[path].count} records, fewer than the {batch} of a step: see --batch-size"
                )
    return summaries


def identify(settings: RunSettings, rate: Schedule, summaries: Summaries, workers: int) -> Identity:
    """All that the weights follow from; a run that is resumed has the same."""
    data, net, optimizer = settings.data, settings.net, settings.optimizer
    records = {"train": data.train, "later_train": data.later_train, "val": data.val}
    known = {name: summaries[path] for name, path in records.items() if path is not None}
    return {
        "net.network": net.network,
        "net.depth": net.depth,
        "net.width": net.plan.width,
        "net.drop_rate": net.plan.drop_rate,
        "net.shortcut": net.plan.shortcut,
        "net.zero_init_residual": net.zero_init_residual,
        "net.bn_momentum": net.bn_momentum,
        "data.classes": data.classes,
        "data.image_shape": list(data.image_shape),
        **{f"data.{name}": identity.identify_records(found.count, found.digest) for name, found in known.items()},
        "batch_size": settings.batch_size * workers,
        "data.augmentation": dataclasses.asdict(data.augmentation()),
        "data.aug_off_epoch": data.aug_off_epoch,
        "data.pad": data.pad,
        "data.mirror": data.mirror,
        "data.mixup": data.mixup,
        "data.backend": data.backend,
        "optimizer.name": optimizer.name,
        "optimizer.momentum": optimizer.momentum,
        "optimizer.weight_decay": optimizer.weight_decay,
        "optimizer.decayed": optimizer.decayed,
        "optimizer.label_smoothing": optimizer.label_smoothing,
        **{f"rate.{name}": value for name, value in dataclasses.asdict(rate).items()},
        "seed": settings.seed,
        "dtype": settings.devices.dtype,
    }


def identify_machine(engine: Engine, model: Model, devices: Devices, group: Group) -> Identity:
    """What the rounding of a run follows from, besides its settings."""
    return {
        "machine.engine": engine.name,
        "machine.version": engine.version,
        "machine.devices": len(devices),
        "machine.device_kind": devices.kind,
        "machine.workers": group.count,
        "machine.store": group.store,
        "machine.threads": os.environ.get("OMP_NUM_THREADS"),
        **{f"machine.{name}": value for name, value in model.traits.items()},
    }


def _log_path(settings: RunSettings, group: Group) -> Path:
    """The log of the workers on a machine."""
    machine = group.rank // group.local_count
    name = f"train-worker{machine}.log" if machine else "train.log"
    return settings.saving.log_dir / Path(settings.saving.prefix).name / name


def _log_header(
    settings: RunSettings, notes: Sequence[str], summaries: Summaries, versions: dict[str, str], parameters: int
) -> None:
    """Log all that is needed to repeat the run."""
    data = settings.data
    logging.info(argparse.Namespace(**settings.flags))  # as MXNet's own scripts log theirs
    logging.info(", ".join(f"{name} {value}" for name, value in versions.items()))
    logging.info("%d training images in %s", summaries[data.train].count, data.train)
    logging.info("%d validation images in %s", summaries[data.val].count, data.val)
    logging.info("%d parameters", parameters)
    logging.info("Augmentation level %d: %s", data.aug_level, data.augmentation())
    if data.aug_off_epoch is not None:
        logging.info("From epoch %d on level 1, with %s", data.aug_off_epoch, data.later_train)
    for note in notes:
        logging.info(note)


def _warn_of_batch(settings: RunSettings, batch: int) -> None:
    """A learning rate goes with a batch size: tell where only one of them is the recipe's."""
    rate = settings.rate
    if batch != rate.batch and "lr" not in settings.given and not rate.scaled:
        logging.warning(
            "The learning rate is for batches of %d, these are of %d: --scale-lr multiplies it by %g",
            rate.batch,
            batch,
            batch / rate.batch,
        )


def _describe(
    settings: RunSettings, notes: Sequence[str], versions: dict[str, str], memory: dict[str, float]
) -> report.Subject:
    """The run as its report tells it."""
    data, epochs = settings.data, f"{settings.epochs} epochs in batches of {settings.flags['batch_size']}"
    return report.Subject(
        title=f"{settings.net.title} on {data.kind}, {epochs}",
        arguments=settings.flags,
        given=frozenset(name.replace("-", "_") for name in settings.start.arguments),
        notes=notes,
        versions=versions,
        memory=memory,
        classes=report.name_classes(data.val, data.classes, of_imagenet=data.kind == "imagenet"),
    )
