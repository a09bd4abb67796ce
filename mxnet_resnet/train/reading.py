"""What a loop reads: the batches of an epoch and of a validation, by whoever has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mxnet_resnet.base.environment import cores
from mxnet_resnet.data import recordio
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.datasets import OURS
from mxnet_resnet.data.loading import Crew
from mxnet_resnet.data.processes import choose_workers
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.data.stored import StoredEpochs
from mxnet_resnet.engines.base import Engine, Group, Session
from mxnet_resnet.settings.sections import RunSettings

Summaries = dict[Path, recordio.Summary]


@dataclass(frozen=True)
class Reading:
    """The batches of a run: those that its session has where the devices keep the data set, else those that are read.

    A session is not asked where images are mixed, which has to see them, where the engine itself is to read, and where
    several workers share the records.
    """

    settings: RunSettings
    engine: Engine
    session: Session
    group: Group
    summaries: Summaries
    stored: StoredEpochs = field(default_factory=StoredEpochs)
    crew: Crew | None = None

    def read_epoch(self, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Batch]:
        """The batches of an epoch from the one at ``skip`` on."""
        batches = self.session.read(records, epoch, skip) if self._of_session else None
        if batches is not None:
            return batches
        backend = self.settings.data.backend
        if backend == OURS:
            return self.stored.read(records, epoch, skip)
        return islice(self.engine.read_epoch(records, epoch, backend), skip, None)

    def read_validation(self) -> Iterator[Batch]:
        """The validation batches."""
        data = self.settings.data
        records = ValidationRecords(
            data.val,
            self.summaries[data.val],
            data.image_shape,
            self.settings.batch_size,
            self.group.rank,
            self.group.count,
            count_threads(self.settings, self.group),
            self.crew,
        )
        batches = self.session.read_validation(records) if self._of_session else None
        return records.read() if batches is None else batches

    @property
    def _of_session(self) -> bool:
        data = self.settings.data
        return not data.mixup and data.backend == OURS and self.group.count == 1


def training_records(
    settings: RunSettings, summaries: Summaries, group: Group, epoch: int, crew: Crew | None = None
) -> TrainingRecords:
    """The records, and their augmentation, that an epoch is trained on; ``crew``: who loads them, if not threads."""
    data = settings.data
    path = data.records(epoch)
    return TrainingRecords(
        path,
        summaries[path],
        data.image_shape,
        settings.batch_size,
        augmentation=data.augmentation(epoch),
        pad=data.pad,
        mirror=data.mirror,
        seed=settings.seed,
        part=group.rank,
        num_parts=group.count,
        threads=count_threads(settings, group),
        crew=crew,
    )


def choose_crew(settings: RunSettings, group: Group) -> int:
    """The processes that load the images of this worker, which shares the cores as for threads; 0 where threads do.

    Raises UserError where the system has none, and they are asked for.
    """
    data = settings.data
    return choose_workers(data.workers, data.threads, max(1, cores() // group.local_count), data.image_shape)


def count_threads(settings: RunSettings, group: Group) -> int:
    """The threads that decode for this worker; those on one machine share its cores."""
    return settings.data.threads or max(1, cores() // group.local_count)
