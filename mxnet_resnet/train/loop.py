"""The training loop: from where a run stands to its last epoch."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import mxnet as mx
import numpy as np
from tqdm import tqdm

from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted, Wish
from mxnet_resnet.data import augment, reader, recordio
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.targets import distributions, mixed
from mxnet_resnet.engines.mxnet import imagerecorditer, optimizer, precision
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.group import Peers
from mxnet_resnet.runs import checkpoint, ledger, logbook, meter
from mxnet_resnet.runs.confusions import Confusions
from mxnet_resnet.runs.metrics import Journal
from mxnet_resnet.runs.start import Start
from mxnet_resnet.settings.schedule import Schedule

PROGRESS_BAR = {"unit": "batch", "leave": False, "disable": None}  # None: on a terminal only
Summaries = dict[Path, recordio.Summary]


class Loop:
    """Trains a bound module, saves, validates and logs.

    All that a step does follows from the weights, the state of the optimizer and ``position``, an Entry; so a run that
    goes on from these is the run that never stopped.
    """

    def __init__(
        self,
        module: mx.mod.Module,
        saved_symbol: mx.sym.Symbol,
        options: argparse.Namespace,
        schedule: Schedule,
        peers: Peers,
        summaries: Summaries,
        begin: Start,
        wish: Wish,
        journal: Journal,
    ):
        self.module, self.symbol, self.options, self.schedule = module, saved_symbol, options, schedule
        self.peers, self.summaries, self.position, self.wish = peers, summaries, begin.entry, wish
        self.journal = journal
        self.confusions: Confusions | None = None  # of the last validation
        self.meter = meter.Meter(options.num_classes)
        self.meter.restore(self.position.meters if peers.rank == 0 else {})  # the sums are those of rank 0
        self.scaler = precision.LossScaler(*self.position.loss_scale or ()) if options.dtype == "float16" else None
        self.validate_first, self.validated = begin.unvalidated, False
        self.drops = '"Dropout"' in saved_symbol.tojson()

    def run(self) -> None:
        """Train up to ``options.epochs``. Raises UserError where the loss is not finite, Interrupted after a signal."""
        position = self.position
        if self.validate_first:
            self._validate()
        while position.epoch < self.options.epochs:
            self._train_epoch()
            self._validate()
        errors = position.errors
        last, best = position.epoch - 1, min(errors, key=errors.get)
        logging.info("Finished: top-1 error %.2f%% (best %.2f%%, epoch %d)", errors[last], errors[best], best)

    def _train_epoch(self) -> None:
        position, options = self.position, self.options
        epoch = position.epoch
        training = training_records(options, self.summaries, self.peers, epoch)
        first, rate = position.batch, self.schedule(position.step)
        if not first:
            self.meter.clear()
            logbook.write_learning_rate(epoch, rate)
        waiting = reader.Waiting(epoch_batches(options, training, epoch, position.batch))
        bar = tqdm(waiting, f"Epoch[{epoch}]", training.batches, initial=position.batch, **PROGRESS_BAR)
        started = time.time()
        try:
            self._train_batches(bar, started)
            metrics = self.meter.epoch()
        except meter.Diverged as end:
            raise UserError(self._diverged(end)) from None
        seconds, images = time.time() - started, (position.batch - first) * options.batch_size * self.peers.count
        logbook.write_epoch(epoch, "Train", metrics)
        logbook.write_time(epoch, seconds)
        logbook.write_wait(epoch, waiting.seconds)
        self.journal.train(epoch, metrics, rate, seconds, images, waiting.seconds)
        position.epoch, position.batch = epoch + 1, 0
        self._save()

    def _train_batches(self, batches: Iterable[Batch], started: float) -> None:
        position, options = self.position, self.options
        window_started, window = started, 0
        for batch in batches:
            self._step(batch)
            window += 1
            index = position.batch - 1
            if index and index % options.frequent == 0:
                metrics = self.meter.window()
                speed = window * options.batch_size / (time.time() - window_started)
                logbook.write_batch(position.epoch, index, speed, metrics)
                window, window_started = 0, time.time()
            if self.peers.stop(self.wish.signal is not None):
                self._save()
                raise self._interrupted()
            if options.save_batches and position.batch % options.save_batches == 0:
                self._save()

    def _step(self, batch: Batch) -> None:
        """Train on a batch."""
        position, options, module = self.position, self.options, self.module
        if self.drops:
            # What is dropped is a function of the step, like all else that is drawn.
            place = [options.seed, position.step, self.peers.rank]
            mx.random.seed(int(np.random.SeedSequence(place).generate_state(1)[0] >> 1))
        if options.mixup:
            place = (options.seed, position.epoch, position.batch)
            batch = mixed(batch, options.mixup, options.num_classes, options.label_smoothing, place)
        data = as_data_batch(batch)
        module.forward(data, is_train=True)
        if self.validated:
            # Inference on the CPU left the weights in a layout of oneDNN's, which this forward pass changes back behind
            # the engine's back: an update meanwhile would be rounded otherwise, now and then.
            mx.nd.waitall()
            self.validated = False
        if self.scaler is None:
            module.backward()
            module.update()
            position.step += 1
        else:
            position.step += self._scaled_update(batch.labels)
        self.meter.update(module.get_outputs()[0], data.label[0], (position.step, position.epoch, position.batch))
        position.batch += 1

    def _scaled_update(self, labels: np.ndarray) -> bool:
        """Go back from a scaled loss, the mean over the batch; whether the gradients were finite, and used."""
        module, options, scale = self.module, self.options, self.scaler.scale
        if labels.ndim == 1:
            labels = distributions(labels, options.num_classes, options.label_smoothing)
        outputs = module.get_outputs()[0]
        # Of the cross-entropy behind a softmax; the probabilities take no gradient.
        of_scores = (outputs - mx.nd.array(labels, outputs.context)) * (scale / options.batch_size)
        module.backward([mx.nd.zeros_like(outputs), of_scores])
        by_device = zip(*(arrays for arrays in module._exec_group.grad_arrays if arrays[0] is not None))
        finite = all([precision.finite(gradients) for gradients in by_device])
        if not self.peers.asynchronous:  # all workers update, or none
            finite = not self.peers.agreed(not finite)
        good = self.scaler.good(finite)
        if good:
            rescale = module._optimizer.rescale_grad
            module._optimizer.rescale_grad = rescale * options.batch_size / scale
            module.update()
            module._optimizer.rescale_grad = rescale
        return good

    def _validate(self) -> None:
        """Measure the errors on the validation records, and note them with the checkpoint."""
        position, options, peers = self.position, self.options, self.peers
        batches = reader.validation_batches(
            options.data_val,
            self.summaries[options.data_val],
            options.image_shape,
            options.batch_size,
            options.data_nthreads,
            peers.rank,
            peers.count,
        )
        last = position.epoch >= options.epochs and peers.rank == 0
        self.confusions = Confusions(peers.rank, peers.count) if last else None
        epoch = position.epoch - 1
        try:
            metrics = evaluate(self.module, self._until_wished(batches), options.num_classes, peers, self.confusions)
        except meter.Diverged as end:
            raise UserError(
                f"the validation loss after epoch {epoch} is {end.loss}: go back with --retrain --model-load-epoch, "
                "and a lower --lr"
            ) from None
        self.validated = True
        logbook.write_epoch(epoch, "Validation", metrics)
        self.journal.validation(epoch, metrics)
        position.validation[str(epoch)] = dict(metrics)
        if peers.rank == 0:
            ledger.write_validation(options.model_prefix, position)
            ledger.prune(options.model_prefix, position, options.keep)

    def _until_wished(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; a validation by one worker may be left at once, for its checkpoint is written."""
        for batch in batches:
            if self.peers.alone and self.wish.signal:
                raise self._interrupted()
            yield batch

    def _save(self) -> None:
        """Write a checkpoint of all that the run is."""
        position = self.position
        try:
            position.meters = self.meter.state() if position.batch else {}
        except meter.Diverged as end:
            raise UserError(self._diverged(end)) from None
        params = self.peers.settle(self.module)
        if not precision.finite([*params[0].values(), *params[1].values()]):
            raise UserError(self._told(f"the weights are not finite after step {position.step}"))
        if self.scaler is not None:
            position.loss_scale = [self.scaler.scale, self.scaler.steps]
        if self.peers.rank == 0:
            prefix = self.options.model_prefix
            checkpoint.save_run(prefix, position, self.symbol, params, optimizer.state(self.module))
            ledger.prune(prefix, position, keep=None)  # of the epochs some may go when this one is known to be good
            path = ledger.file(prefix, position.name, "params")
            logging.info('Saved checkpoint to "%s"', path)

    def _interrupted(self) -> Interrupted:
        position, number = self.position, self.wish.signal or signal.SIGTERM  # another worker may have been told
        name = signal.Signals(number).name
        message = (
            f"Stopped by {name} after {position.epoch} epochs and {position.batch} batches; --resume goes on from there"
        )
        logging.info(message)
        return Interrupted(number, message)

    def _diverged(self, end: meter.Diverged) -> str:
        step, epoch, batch = end.tag
        return self._told(f"the loss is {end.loss} at step {step} (epoch {epoch}, batch {batch})")

    def _told(self, what: str) -> str:
        options = self.options
        last = ledger.whole(options.model_prefix)
        if last is None and options.retrain and not options.load_params:
            last = f"{options.model_load_epoch:04d}"
        kept = f"the last good checkpoint is {options.model_prefix}-{last}" if last else "there is no checkpoint"
        dtype = "" if options.dtype == "float32" else ", or --dtype float32"
        return f"{what}: {kept}; try a lower --lr or a warm-up{dtype}"


def training_records(
    options: argparse.Namespace, summaries: Summaries, peers: Peers, epoch: int
) -> reader.TrainingRecords:
    """The records, and their augmentation, that an epoch is trained on."""
    off = options.aug_off_epoch is not None and epoch >= options.aug_off_epoch
    path, level = (options.data_train_off, 1) if off else (options.data_train, options.aug_level)
    return reader.TrainingRecords(
        path,
        summaries[path],
        options.image_shape,
        options.batch_size,
        augment.level(level, small_images=options.stem == "cifar"),
        options.pad,
        options.mirror,
        options.seed,
        peers.rank,
        peers.count,
        options.data_nthreads or cores(),
    )


def epoch_batches(
    options: argparse.Namespace, records: reader.TrainingRecords, epoch: int, skip: int
) -> Iterator[Batch]:
    """The batches of an epoch from the one at ``skip`` on, by the reader that the options ask for."""
    if options.data_backend == "imagerecorditer":
        return islice(imagerecorditer.read_epoch(records, epoch), skip, None)
    return records.epoch(epoch, skip)


def evaluate(
    module: mx.mod.Module,
    batches: Iterable[Batch],
    num_classes: int,
    peers: Peers | None = None,
    confusions: Confusions | None = None,
) -> list[tuple[str, float]]:
    """The metrics of a module over batches, each image counted once (the filling of the last batch is not).

    With ``peers`` over those of all workers together. ``confusions`` are counted on the way.
    """
    sums = meter.Meter(num_classes)
    for batch in batches:
        data = as_data_batch(batch)
        module.forward(mx.io.DataBatch(data.data), is_train=False)
        outputs, labels = module.get_outputs()[0][: batch.count], data.label[0][: batch.count]
        sums.update(outputs, labels)
        if confusions is not None:
            confusions.update(outputs, labels)
    return meter.means(sums.names, peers.total(sums.sums())) if peers else sums.epoch()
