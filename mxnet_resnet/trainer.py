"""The training loop."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import cv2
import mxnet as mx
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mxnet_resnet import augment, checkpoint, devices, logbook, memonger, models, recordio, records, symbols
from mxnet_resnet.errors import UserError
from mxnet_resnet.options import network_plan

PROGRESS_BAR = {"unit": "batch", "leave": False, "disable": None}  # None: on a terminal only
InitialParams = tuple[Optional[checkpoint.Arrays], Optional[checkpoint.Arrays]]


def train(options: argparse.Namespace) -> None:
    """Train as the options of options.parse say: checkpoints at ``options.model_prefix``, a log in ``options.log_dir``.

    Raises UserError before anything is written where the options and the data do not fit each other.
    """
    contexts, device_line = devices.choose(options.gpus)
    store = _create_store(options.kv_store)
    summaries = _check_records(options, len(contexts))
    symbol = build_symbol(options)
    initial = _initial_params(options, symbol)
    checkpoint.check_writable(options.model_prefix)

    log = options.log_dir / Path(options.model_prefix).name / "train.log"
    with logbook.writing(log, append=options.retrain), logging_redirect_tqdm():
        _write_header(options, device_line, summaries)
        steps_per_epoch = _steps_per_epoch(options, summaries[options.data_train].count, store.num_workers)
        module = _bind(symbol, options, contexts, initial, steps_per_epoch, store)
        _fit(module, symbol, options, store, summaries)


def _steps_per_epoch(options: argparse.Namespace, counted: int, workers: int) -> int:
    """The batches of each worker in an epoch, the last one filled up."""
    return -(-(options.num_examples or counted) // (options.batch_size * workers))


def _create_store(kind: str) -> mx.kvstore.KVStore:
    try:
        return mx.kvstore.create(kind)
    except mx.base.MXNetError as error:
        raise UserError(f"this MXNet has no --kv-store {kind}: take device or local") from error


def build_symbol(options: argparse.Namespace) -> mx.sym.Symbol:
    """The network of the options as a trainable Symbol."""
    net = models.from_architecture(network_plan(options), options.num_classes, options.bn_mom)
    symbol = symbols.softmax(net, options.workspace, options.image_shape)
    return memonger.mirror(symbol) if options.memonger else symbol


Summaries = dict[Path, recordio.Summary]


def _check_records(options: argparse.Namespace, device_count: int) -> Summaries:
    """What the record files hold. Raises UserError where they are damaged or do not fit the options."""
    if options.batch_size < device_count:
        raise UserError(f"--batch-size {options.batch_size} is smaller than the number of devices, {device_count}")
    summaries = {}
    # A large training image that does not decode ends the run where it is met; small ones are soon looked at, and
    # ImageRecordIter would take a padded one for grey.
    decoded = options.pad > 0
    for path, decoding in ((options.data_train, decoded), (options.data_train_off, decoded), (options.data_val, True)):
        if path is not None and path not in summaries:
            summaries[path] = recordio.scan(path, decoding)
            recordio.check_labels(path, summaries[path], options.num_classes)
            if path != options.data_val and summaries[path].count < options.batch_size:
                raise UserError(
                    f"{path} has {summaries[path].count} records, fewer than --batch-size {options.batch_size}"
                )
    return summaries


def _initial_params(options: argparse.Namespace, symbol: mx.sym.Symbol) -> InitialParams:
    """The (arguments, auxiliary states) to start from with --retrain, else (None, None), which are drawn at random."""
    if not options.retrain:
        return None, None
    params = checkpoint.load_params(options.model_prefix, options.model_load_epoch)
    checkpoint.check_fit(symbol, (1, *options.image_shape), *params)
    return params


def _write_header(options: argparse.Namespace, device_line: str, summaries: Summaries) -> None:
    """Log all that is needed to repeat the run."""
    logging.info(options)
    logging.info(
        "Python %s, MXNet %s, NumPy %s, OpenCV %s, %s, OMP_NUM_THREADS=%s",
        platform.python_version(),
        mx.__version__,
        np.__version__,
        cv2.__version__,
        platform.platform(),
        os.environ.get("OMP_NUM_THREADS"),
    )
    logging.info("%d training images in %s", summaries[options.data_train].count, options.data_train)
    logging.info("%d validation images in %s", summaries[options.data_val].count, options.data_val)
    logging.info("Augmentation level %d: %s", options.aug_level, _augmentation(options, options.aug_level))
    if options.aug_off_epoch is not None:
        logging.info("From epoch %d on level 1, with %s", options.aug_off_epoch, options.data_train_off)
    lr, steps = _learning_rate(options)
    logging.info("Learning rate %g, divided by 10 after epochs %s", lr, steps)
    logging.info(device_line)


def _augmentation(options: argparse.Namespace, level: int) -> augment.Augmentation:
    return augment.level(level, small_images=options.stem == "cifar")


def _training_records(
    options: argparse.Namespace, summaries: Summaries, store: mx.kvstore.KVStore, epoch: int
) -> records.TrainingRecords:
    """The records, and their augmentation, that an epoch is trained on."""
    off = options.aug_off_epoch is not None and epoch >= options.aug_off_epoch
    path, level = (options.data_train_off, 1) if off else (options.data_train, options.aug_level)
    return records.TrainingRecords(
        path,
        summaries[path],
        options.image_shape,
        options.batch_size,
        _augmentation(options, level),
        options.pad,
        options.mirror,
        options.seed,
        store.rank,
        store.num_workers,
        options.data_nthreads or recordio.cores(),
        options.data_backend,
    )


def _bind(
    symbol: mx.sym.Symbol,
    options: argparse.Namespace,
    contexts: list[mx.Context],
    initial: InitialParams,
    steps_per_epoch: int,
    store: mx.kvstore.KVStore,
) -> mx.mod.Module:
    """A module with parameters, optimizer and learning rate schedule, ready for its first step."""
    mx.random.seed(options.seed)
    np.random.seed(options.seed)
    module = mx.mod.Module(symbol, context=contexts, label_names=["softmax_label"])
    module.bind([("data", (options.batch_size, *options.image_shape))], [("softmax_label", (options.batch_size,))])
    initializer = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    module.init_params(initializer, *initial)
    module.init_optimizer(store, "nag", _optimizer_settings(options, steps_per_epoch))
    if options.memonger:
        executors = module._exec_group.execs
        logging.info("Planned activation memory: %d MB a device", memonger.planned_megabytes(executors[0]))
    return module


def _learning_rate(options: argparse.Namespace) -> tuple[float, list[int]]:
    """The learning rate to begin with, and the epochs after which it is divided by 10.

    One given with --retrain is the one from there on, and only the epochs still ahead divide it.
    """
    if options.retrain and options.lr is not None:
        return options.lr, [epoch for epoch in options.lr_steps if epoch > options.model_load_epoch]
    return 0.1 if options.lr is None else options.lr, options.lr_steps


def _optimizer_settings(options: argparse.Namespace, steps_per_epoch: int) -> dict[str, object]:
    """Nesterov momentum under a multi-factor schedule."""
    lr, epochs = _learning_rate(options)
    done = (options.model_load_epoch or 0) * steps_per_epoch
    settings = {"learning_rate": lr, "momentum": options.mom, "wd": options.wd, "begin_num_update": done}
    if epochs:
        steps = [epoch * steps_per_epoch for epoch in epochs]
        settings["lr_scheduler"] = mx.lr_scheduler.MultiFactorScheduler(steps, factor=0.1, base_lr=lr)
    return settings


def _fit(
    module: mx.mod.Module,
    symbol: mx.sym.Symbol,
    options: argparse.Namespace,
    store: mx.kvstore.KVStore,
    summaries: Summaries,
) -> None:
    """Train and validate epoch by epoch."""
    errors = {}
    for epoch in range(options.model_load_epoch or 0, options.epochs):
        train_records = _training_records(options, summaries, store, epoch)
        waiting = records.Waiting(train_records.epoch(epoch))
        bar = tqdm(waiting, f"Epoch[{epoch}]", train_records.batches, **PROGRESS_BAR)
        _train_epoch(module, bar, epoch, options)
        mx.nd.waitall()  # BatchNorm changes its running statistics in the backward pass, unseen by those who read them
        logbook.write_wait(epoch, waiting.seconds)
        if store.rank == 0:
            saved = checkpoint.save(options.model_prefix, epoch + 1, symbol, *module.get_params())
            logging.info('Saved checkpoint to "%s"', saved)
        batches = records.validation_batches(
            options.data_val,
            summaries[options.data_val],
            options.image_shape,
            options.batch_size,
            options.data_nthreads,
        )
        metrics = evaluate(module, batches, options.num_classes)
        logbook.write_epoch(epoch, "Validation", metrics)
        errors[epoch] = 100 * (1 - dict(metrics)["accuracy"])
    best = min(errors, key=errors.get)
    logging.info("Finished: top-1 error %.2f%% (best %.2f%%, epoch %d)", errors[epoch], errors[best], best)


def _train_epoch(
    module: mx.mod.Module, batches: Iterable[mx.io.DataBatch], epoch: int, options: argparse.Namespace
) -> None:
    """One pass over the training batches, logged."""
    metric = _metrics(options.num_classes)
    metric.reset()
    started = window_started = time.time()
    window = 0
    for index, batch in enumerate(batches):
        module.forward_backward(batch)
        module.update()
        module.update_metric(metric, batch.label)
        window += 1
        if index and index % options.frequent == 0:
            speed = window * options.batch_size / (time.time() - window_started)
            logbook.write_batch(epoch, index, speed, metric.get_name_value())
            metric.reset_local()
            window, window_started = 0, time.time()
    logbook.write_epoch(epoch, "Train", metric.get_global_name_value())
    logbook.write_time(epoch, time.time() - started)


def evaluate(module: mx.mod.Module, batches: Iterable[mx.io.DataBatch], num_classes: int) -> list[tuple[str, float]]:
    """The metrics of a module over batches, each image counted once (the filling of the last batch is not)."""
    metric = _metrics(num_classes)
    for batch in batches:
        module.forward(batch, is_train=False)
        kept = batch.data[0].shape[0] - batch.pad
        outputs, labels = module.get_outputs()[0], batch.label[0]
        metric.update([labels[:kept]], [outputs[:kept]])
    return metric.get_name_value()


def _metrics(num_classes: int) -> mx.metric.CompositeEvalMetric:
    """Accuracy and cross-entropy for few classes, top-5 accuracy for many, as the published logs have them."""
    if num_classes <= 100:
        return mx.metric.CompositeEvalMetric([mx.metric.Accuracy(), mx.metric.CrossEntropy()])
    return mx.metric.CompositeEvalMetric([mx.metric.Accuracy(), mx.metric.TopKAccuracy(top_k=5)])
