"""What a run is, for its entry in the ledger: all that its weights and their rounding follow from."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.recordio import Summary
from mxnet_resnet.engines.base import Devices, Engine, Group, Model
from mxnet_resnet.runs import entries, identity, ledger
from mxnet_resnet.runs.identity import Identity
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.reading import Summaries


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
        **{f"data.{name}": _identify_records(found) for name, found in known.items()},
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


def _identify_records(found: Summary) -> dict[str, Any]:
    return identity.identify_records(found.count, found.digest, found.content)


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


def read_threads(prefix: str) -> int | None:
    """The threads that a device of the latest run at a prefix had; None where there is none, or it does not tell."""
    for name in ledger.names(prefix):
        with suppress(UserError):  # whoever goes on with the run tells what is wrong
            told = str(entries.read_found(prefix, name).settings.get("machine.threads"))
            return int(told) if told.isdecimal() else None
    return None
