"""The training loop."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mxnet_resnet import checkpoint, devices, logbook, memonger, models, recordio, records, symbols
from mxnet_resnet.errors import UserError
from mxnet_resnet.options import network_plan


def train(options: argparse.Namespace) -> None:
    """Train as the options of options.parse say: checkpoints at ``options.model_prefix``, a log in ``options.log_dir``.

    Raises UserError before anything is written where the options and the data do not fit each other.
    """
    contexts = devices.choose(options.gpus)
    store = _create_store(options.kv_store)
    summary, val_summary = _check_records(options, len(contexts))
    symbol = build_symbol(options)
    initial = _initial_params(options, symbol)

    log = options.log_dir / Path(options.model_prefix).name / "train.log"
    with logbook.writing(log, append=options.retrain), logging_redirect_tqdm():
        _write_header(options, contexts, summary, val_summary)
        examples = options.num_examples or summary.count
        steps_per_epoch = -(-examples // (options.batch_size * store.num_workers))
        module = _bind(symbol, options, contexts, initial, steps_per_epoch, store)
        _fit(module, symbol, options, store)


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


def _check_records(options: argparse.Namespace, device_count: int) -> tuple[recordio.Summary, recordio.Summary]:
    if options.batch_size < device_count:
        raise UserError(f"--batch-size {options.batch_size} is smaller than the number of devices, {device_count}")
    summaries = []
    for path in (options.data_train, options.data_val):
        # Where images are padded, MXNet's reader takes one that does not decode for a grey one.
        summaries.append(recordio.scan(path, decoding=options.pad > 0))
        recordio.check_labels(path, summaries[-1], options.num_classes)
    if summaries[0].count < options.batch_size:
        raise UserError(
            f"{options.data_train} has {summaries[0].count} records, fewer than --batch-size {options.batch_size}"
        )
    return summaries[0], summaries[1]


def _initial_params(options: argparse.Namespace, symbol: mx.sym.Symbol):
    """The (arguments, auxiliary states) to start from with --retrain, else (None, None), which are drawn at random."""
    if not options.retrain:
        return None, None
    params = checkpoint.load_params(options.model_prefix, options.model_load_epoch)
    checkpoint.check_fit(symbol, (1, *options.image_shape), *params)
    return params


def _write_header(
    options: argparse.Namespace, contexts: list[mx.Context], train: recordio.Summary, val: recordio.Summary
):
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
    logging.info("%d training images in %s", train.count, options.data_train)
    logging.info("%d validation images in %s", val.count, options.data_val)
    logging.info("Augmentation level %d: %s", options.aug_level, _augmentation(options))
    logging.info("Start training with %s", contexts)


def _augmentation(options: argparse.Namespace) -> records.Augmentation:
    return records.augmentation(options.aug_level, small_images=options.stem == "cifar")


def _bind(symbol, options, contexts, initial, steps_per_epoch: int, store) -> mx.mod.Module:
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


def _optimizer_settings(options: argparse.Namespace, steps_per_epoch: int) -> dict:
    """Nesterov momentum under a multi-factor schedule.

    A learning rate given with --retrain is the one from there on, and only the steps still ahead divide it.
    """
    done = options.model_load_epoch
    changed = options.retrain and options.lr is not None
    lr = 0.1 if options.lr is None else options.lr
    steps = [epoch * steps_per_epoch for epoch in options.lr_steps if not changed or epoch > done]
    settings = {"momentum": options.mom, "wd": options.wd, "begin_num_update": done * steps_per_epoch}
    if not steps:
        return {**settings, "learning_rate": lr}
    schedule = mx.lr_scheduler.MultiFactorScheduler(steps, factor=0.1, base_lr=lr)
    return {**settings, "learning_rate": lr, "lr_scheduler": schedule}


def _fit(module: mx.mod.Module, symbol: mx.sym.Symbol, options: argparse.Namespace, store) -> None:
    train_records = records.TrainingRecords(
        options.data_train,
        options.image_shape,
        options.batch_size,
        _augmentation(options),
        options.pad,
        options.mirror,
        options.seed,
        store.rank,
        store.num_workers,
    )
    errors = {}
    for epoch in range(options.model_load_epoch, options.epochs):
        _train_epoch(module, train_records.epoch(epoch), epoch, options)
        if store.rank == 0:
            saved = checkpoint.save(options.model_prefix, epoch + 1, symbol, *module.get_params())
            logging.info('Saved checkpoint to "%s"', saved)
        batches = records.validation_batches(options.data_val, options.image_shape, options.batch_size)
        metrics = evaluate(module, batches, options.num_classes)
        logbook.write_epoch(epoch, "Validation", metrics)
        errors[epoch] = 100 * (1 - dict(metrics)["accuracy"])
    best = min(errors, key=errors.get)
    logging.info("Finished: top-1 error %.2f%% (best %.2f%%, epoch %d)", errors[epoch], errors[best], best)


def _train_epoch(module: mx.mod.Module, batches: Iterable[mx.io.DataBatch], epoch: int, options: argparse.Namespace):
    """One pass over the training batches, logged."""
    metric = _metrics(options.num_classes)
    metric.reset()
    started = window_started = time.time()
    window = 0
    for index, batch in enumerate(tqdm(batches, f"Epoch[{epoch}]", unit="batch", leave=False, disable=None)):
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
