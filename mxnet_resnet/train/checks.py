"""What is looked at before a run begins: its records, its batches, its workers."""

from __future__ import annotations

import dataclasses

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import pairing, recordio
from mxnet_resnet.data.datasets import OURS
from mxnet_resnet.engines.base import Engine, Group
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.reading import Summaries


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


def check_same(group: Group, text: str) -> None:
    """Raise UserError unless all workers have the same text, which tells what they begin with."""
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
            if data.backend != OURS and path in (data.train, data.later_train):
                recordio.check_plain(path, summaries[path], data.backend)
    return summaries


def note_records(settings: RunSettings, summaries: Summaries) -> list[str]:
    """What is to be said of training and validation records that may not go together."""
    data, val = settings.data, summaries[settings.data.val]
    notes = pairing.compare_labels(summaries[data.train], val, data.classes)
    notes += pairing.compare_names(data.train, data.val)
    stages = [(data.train, data.augmentation())]
    if data.aug_off_epoch is not None and data.later_train is not None:
        stages.append((data.later_train, data.augmentation(data.aug_off_epoch)))
    for path, preset in dict.fromkeys(stages):
        notes += pairing.compare_scales(path, summaries[path], data.image_shape, preset, data.pad)
    for path, summary in summaries.items():
        notes += recordio.describe_sampling(path, summary)
    return notes
