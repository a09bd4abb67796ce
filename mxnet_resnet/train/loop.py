"""The training loop: from where a run stands to its last epoch."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted, Wish
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.loading import Crew
from mxnet_resnet.data.reader import Waiting
from mxnet_resnet.data.stored import StoredEpochs
from mxnet_resnet.data.targets import mixed
from mxnet_resnet.engines.base import Engine, Group, Pending, Session
from mxnet_resnet.runs import checkpoint, entries, ledger, logbook, meters
from mxnet_resnet.runs.meters import Confusions, Diverged, Meter
from mxnet_resnet.runs.metrics import MetricsFile
from mxnet_resnet.runs.start import Start
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.reading import Reading, Summaries, training_records
from mxnet_resnet.train.timer import SPENT, Timer

PROGRESS_BAR: dict[str, Any] = {"unit": "batch", "leave": False, "disable": None}  # None: on a terminal only


@dataclass(frozen=True)
class Surroundings:
    """What a loop works with: who computes, who takes part, what is read, where figures go, who may stop it.

    Attributes:
        graph: what ``PREFIX-symbol.json`` is to hold.
        bar: whether the loop shows how far it is, on a terminal.
        crew: who loads records; None: threads.
    """

    engine: Engine
    session: Session
    group: Group
    summaries: Summaries
    stored: StoredEpochs
    rate: Schedule
    graph: str
    wish: Wish
    metrics: MetricsFile
    bar: bool = True
    crew: Crew | None = None


class Loop:
    """Trains, saves, validates and logs.

    All that a step does follows from the weights, the state of the optimizer and ``position``, an Entry; so a run that
    goes on from these is the run that never stopped.
    """

    def __init__(self, settings: RunSettings, around: Surroundings, begin: Start):
        self.settings, self.position = settings, begin.entry
        self.session, self.group = around.session, around.group
        self.summaries, self.rate, self.graph = around.summaries, around.rate, around.graph
        self.wish, self.metrics, self.bar = around.wish, around.metrics, around.bar
        reading = (settings, around.engine, self.session, self.group, self.summaries, around.stored, around.crew)
        self.reading = Reading(*reading)
        self.confusions: Confusions | None = None  # of the last validation
        self.meter = Meter(settings.data.classes, self.session.in_flight)
        self.meter.restore(self.position.meters if self.group.rank == 0 else {})  # the sums are those of rank 0
        self.timer: Timer | None = None  # of the epoch under way
        self.validate_first = begin.unvalidated

    def run(self) -> None:
        """Train up to the last epoch. Raises as `steps`."""
        for _ in self.steps():
            pass

    def steps(self) -> Generator[None, None, None]:
        """Train up to the last epoch, and stop once in each step: when it is begun, before its figures are read.

        Raises UserError where the loss is not finite, Interrupted after a signal and when the time is up.
        """
        position = self.position
        if self.validate_first:
            self._validate()
            self.validate_first = False
        while position.epoch < self.settings.epochs:
            yield from self._train_epoch()
            self._validate()
        errors = position.errors
        last, best = position.epoch - 1, min(errors, key=errors.__getitem__)
        path = entries.file(self.settings.saving.prefix, position.best, "params")
        told = "Finished: top-1 error %.2f%% (best %.2f%%, Epoch[%d]: %s)"
        logging.info(told, errors[last], errors[best], best, path)

    def _train_epoch(self) -> Iterator[None]:
        position = self.position
        epoch, first, rate = position.epoch, position.batch, self.rate(position.step)
        records = training_records(self.settings, self.summaries, self.group, epoch, self.reading.crew)
        if not first:
            self.meter.clear()
            logbook.write_learning_rate(epoch, rate)
        waiting = Waiting(self.reading.read_epoch(records, epoch, first))
        bar: Iterable[Batch] = waiting
        if self.bar and not self.group.local_rank:
            bar = tqdm(waiting, f"Epoch[{epoch}]", records.batches, initial=first, **PROGRESS_BAR)
        before = position.meters.get(SPENT, {}) if first else {}
        self.timer = timer = Timer(waiting, first, before)
        try:
            yield from self._train_batches(bar)
            metrics = self.meter.epoch()
        except Diverged as end:
            raise UserError(self._diverged(end)) from None
        spent = timer.read(position.batch)
        images = int(spent["batches"]) * self.settings.batch_size * self.group.count
        logbook.write_epoch(epoch, "Train", metrics)
        logbook.write_time(epoch, spent["seconds"])
        logbook.write_wait(epoch, spent["wait"])
        self.metrics.train(epoch, metrics, rate, spent["seconds"], images, spent["wait"])
        position.epoch, position.batch = epoch + 1, 0
        self._save()

    def _train_batches(self, batches: Iterable[Batch]) -> Iterator[None]:
        position, saving = self.position, self.settings.saving
        window_started, window = time.time(), 0
        for batch in batches:
            figures = self._step(batch)
            yield
            self._note(figures)
            window += 1
            index = position.batch - 1
            if index and index % saving.frequent == 0:
                metrics = self.meter.window()
                images = window * self.settings.batch_size * self.group.local_count
                speed = images / (time.time() - window_started)
                logbook.write_batch(position.epoch, index, speed, metrics)
                window, window_started = 0, time.time()
            if self.group.should_stop(self.wish.there):
                self._save()
                raise self._interrupted()
            if saving.every_batches and position.batch % saving.every_batches == 0:
                self._save()

    def _step(self, batch: Batch) -> Pending:
        """Train on a batch."""
        position, settings = self.position, self.settings
        data = settings.data
        if data.mixup:
            place = (settings.seed, position.epoch, position.batch)
            batch = mixed(batch, data.mixup, data.classes, settings.optimizer.label_smoothing, place)
        return self.session.step(batch, position.step)

    def _note(self, figures: Pending) -> None:
        """Note that a batch is done."""
        position = self.position
        position.step += figures.updated
        self.meter.update(figures, f"step {position.step} (Epoch[{position.epoch}], batch {position.batch})")
        position.batch += 1

    def _validate(self) -> None:
        """Measure the errors on the validation records, and note them with the checkpoint."""
        position, group = self.position, self.group
        last = position.epoch >= self.settings.epochs and group.rank == 0
        self.confusions = Confusions(group.rank, group.count, self.session.in_flight) if last else None
        epoch = position.epoch - 1
        try:
            metrics = self._measure(self._until_wished(self._validation_batches()))
        except Diverged as end:
            raise UserError(
                f"the validation loss of Epoch[{epoch}], checkpoint {position.epoch:04d}, is {end.loss}: go back with "
                "--retrain --model-load-epoch, and a lower --lr"
            ) from None
        logbook.write_epoch(epoch, "Validation", metrics)
        self.metrics.validation(epoch, metrics)
        position.validation[str(epoch)] = dict(metrics)
        if group.rank == 0:
            prefix = self.settings.saving.prefix
            ledger.write_validation(prefix, position)
            ledger.prune(prefix, position, self.settings.saving.keep)

    def _measure(self, batches: Iterable[Batch]) -> meters.Metrics:
        """The metrics over the batches of all workers together, each image counted once."""
        sums = Meter(self.settings.data.classes, self.session.in_flight)
        for batch in batches:
            figures = self.session.validate(batch)
            sums.update(figures)
            if self.confusions is not None:
                self.confusions.update(figures, batch.labels[: batch.count])
        return meters.mean_metrics(sums.names, self.group.add_up(sums.sums()))

    def _validation_batches(self) -> Iterator[Batch]:
        return self.reading.read_validation()

    def _until_wished(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; a validation by one worker may be left at once, for its checkpoint is written.

        One that a run goes on with is left after a signal alone: a command whose time is short has to come further too.
        """
        wish = self.wish
        for batch in batches:
            if self.group.alone and (wish.signal is not None if self.validate_first else wish.there):
                raise self._interrupted()
            yield batch

    def _save(self) -> None:
        """Write a checkpoint of all that the run is."""
        position = self.position
        try:
            spent = {SPENT: self.timer.read(position.batch)} if self.timer else {}
            position.meters = {**self.meter.state(), **spent} if position.batch else {}
        except Diverged as end:
            raise UserError(self._diverged(end)) from None
        snapshot = self.session.snapshot()
        arrays = (*snapshot.params.values(), *snapshot.statistics.values())
        if not all(np.isfinite(array).all() for array in arrays):
            raise UserError(self._advise(f"the weights are not finite after step {position.step}"))
        if self.group.rank == 0:
            prefix = self.settings.saving.prefix
            checkpoint.save_run(prefix, position, self.graph, snapshot)
            ledger.prune(prefix, position, keep=None)  # of the epochs some may go when this one is known to be good
            path = entries.file(prefix, position.name, "params")
            logging.info('Saved checkpoint to "%s"', path)

    def _interrupted(self) -> Interrupted:
        """The end of this run; all workers come here, and say the same: the signal where any of them had one."""
        position, number = self.position, self.wish.signal
        if self.group.add_up([number is not None])[0] and number is None:
            number = signal.SIGTERM
        where = f"after {position.epoch} epochs and {position.batch} batches"
        if number is None:
            prefix = self.settings.saving.prefix
            message = f"Time is up {where}: the same command goes on from there, or --resume --model-prefix {prefix}"
        else:
            message = f"Stopped by {signal.Signals(number).name} {where}; --resume goes on from there"
        return Interrupted(number, message)

    def _diverged(self, end: Diverged) -> str:
        return self._advise(f"the loss is {end.loss} at {end.tag}")

    def _advise(self, what: str) -> str:
        """What went wrong, where the last good checkpoint is, and what to try."""
        start = self.settings.start
        last = ledger.find_whole(start.prefix)
        if last is None and start.retrain and not start.params:
            last = f"{start.epoch:04d}"
        kept = f"the last good checkpoint is {start.prefix}-{last}" if last else "there is no checkpoint"
        dtype = "" if self.settings.devices.dtype == "float32" else ", or --dtype float32"
        return f"{what}: {kept}; try a lower --lr or a warm-up{dtype}"
