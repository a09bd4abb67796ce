"""Training: from the options to a loop that runs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
from pathlib import Path

import mxnet as mx
import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from mxnet_resnet.base import environment, files, interruption
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.engines.mxnet import cluster, devices, models, optimizer, precision, symbols
from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.engines.mxnet.group import Peers
from mxnet_resnet.engines.mxnet.memory import memonger
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet, to_numpy
from mxnet_resnet.plot import report
from mxnet_resnet.runs import checkpoint, ledger, logbook, metrics, start
from mxnet_resnet.settings import schedule
from mxnet_resnet.settings.options import network_plan
from mxnet_resnet.train.loop import Loop, Summaries


def train(options: argparse.Namespace) -> None:
    """Train as the options of options.parse say: checkpoints at ``options.model_prefix``, a log in ``options.log_dir``.

    Raises UserError before anything is written where the options, the data and the run to go on with do not fit each
    other, and Interrupted after a signal.
    """
    contexts, device_line = devices.choose(options.gpus, options.cpus)
    metrics.check(options.tensorboard)
    precision.check(options.dtype, contexts)
    with cluster.join(options.kv_store) as store:
        _train(options, contexts, device_line, Peers(store))


def _train(options: argparse.Namespace, contexts: list[mx.Context], device_line: str, peers: Peers) -> None:
    summaries = _check_records(options, len(contexts), peers.count)
    steps_per_epoch = _steps_per_epoch(options, summaries[options.data_train].count, peers.count)
    rate = schedule.from_options(options, steps_per_epoch, options.batch_size * peers.count)
    net = build_net(options)
    symbol, executed = build_symbol(options, net), training_graph(options, net, contexts)
    settings = {**_settings(options, rate, summaries, peers.count), start.MACHINE: _machine(contexts, peers)}
    shapes = symbols.parameter_shapes(symbol, (1, *options.image_shape))
    begin = start.find(options, shapes, settings, steps_per_epoch)
    _check_same(peers, json.dumps([settings, begin.entry.name, begin.entry.step, begin.anew], default=str))
    plan = plan_memory(options, executed, len(contexts))
    checkpoint.check_writable(options.model_prefix)

    name = f"train-worker{peers.rank}.log" if peers.rank else "train.log"
    log = options.log_dir / Path(options.model_prefix).name / name
    append = options.retrain or not begin.anew
    lock = contextlib.nullcontext() if peers.rank else files.locked(Path(f"{options.model_prefix}-lock"))
    figures = metrics.writing(None if peers.rank else log.parent, append, options.tensorboard, begin.entry.epoch)
    with lock, logbook.writing(log, append), figures as told, logging_redirect_tqdm(), interruption.watching() as wish:
        notes = [device_line, rate.describe(steps_per_epoch), *([plan] if plan else []), *begin.notes]
        _write_header(options, notes, summaries, models.count_parameters(net))
        _warn_of_batch(options, options.batch_size * peers.count)
        module = bind(options, executed, contexts, begin.params and tuple(map(to_mxnet, begin.params)), plan)
        _check_same(peers, checkpoint.digest(*map(to_numpy, module.get_params()), begin.state))
        optimizer.install(module, options, rate, peers, begin.entry.step)
        optimizer.restore(module, to_mxnet(begin.state))
        if peers.rank == 0:
            ledger.begin(options.model_prefix, begin.entry, begin.anew)
        loop = Loop(module, symbol, options, rate, peers, summaries, begin, wish, told)
        loop.run()
        if loop.confusions is not None:
            report.attempt(log.parent, options, contexts, notes, summaries[options.data_val], loop.confusions)


def _check_same(peers: Peers, text: str) -> None:
    if not peers.same(text):
        raise UserError(
            "the workers do not start from the same: all need the same flags and records, and checkpoints in a folder "
            "that all machines share"
        )


def _steps_per_epoch(options: argparse.Namespace, counted: int, workers: int) -> int:
    """The batches of each worker in an epoch, the last one filled up."""
    return -(-(options.num_examples or counted) // (options.batch_size * workers))


def build_net(options: argparse.Namespace) -> models.ResNet | models.PreActResNet:
    """The network of the options, with parameters that are not initialized."""
    return models.from_architecture(
        network_plan(options), options.num_classes, options.bn_mom, zero_init_residual=options.zero_init_residual
    )


def build_symbol(options: argparse.Namespace, net: models.ResNet | models.PreActResNet) -> mx.sym.Symbol:
    """The network as the trainable Symbol to save."""
    # With mixup, labels come as distributions that are smooth already.
    smoothing = 0.0 if options.mixup else options.label_smoothing
    return symbols.softmax(net, options.workspace, options.image_shape, smoothing)


def training_graph(
    options: argparse.Namespace, net: models.ResNet | models.PreActResNet, contexts: list[mx.Context]
) -> mx.sym.Symbol:
    """The network as the Symbol to execute, with the arguments and states of the one to save."""
    scaled = options.dtype == "float16"  # whose gradients are scaled from step to step
    symbol = symbols.without_loss(net, options.workspace) if scaled else build_symbol(options, net)
    if contexts[0].device_type == "cpu":
        # A plan of memory chooses between a BatchNorm and its ReLU.
        symbol = execution.for_cpu(symbol, fuse=not options.memonger, pad_images=options.dtype == "bfloat16")
    return precision.lower(symbol, options.dtype)


def plan_memory(options: argparse.Namespace, symbol: mx.sym.Symbol, device_count: int) -> memonger.Plan | None:
    """What to compute again with --memonger. Raises UserError where the budget is too small."""
    if not options.memonger:
        return None
    shapes = _input_shapes(options, symbol, max(devices.shares(options.batch_size, device_count)))
    return memonger.plan(symbol, shapes, options.memonger_budget)


def bind(
    options: argparse.Namespace,
    symbol: mx.sym.Symbol,
    contexts: list[mx.Context],
    params: tuple[optimizer.Arrays, optimizer.Arrays] | None = None,
    plan: memonger.Plan | None = None,
) -> mx.mod.Module:
    """A module that executes a training graph on the devices, with parameters: these, or random ones from the seed."""
    if plan is not None:
        symbol = plan.apply(symbol, cudnn=contexts[0].device_type == "gpu")
    mx.random.seed(options.seed)
    np.random.seed(options.seed)
    shapes = _input_shapes(options, symbol, options.batch_size)
    images, labels = [("data", shapes.pop("data"))], list(shapes.items())
    module = mx.mod.Module(symbol, context=contexts, label_names=list(shapes))
    with memonger.packing() if plan is not None else contextlib.nullcontext():
        module.bind(images, labels or None)
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), *params or (None, None))
    return module


def _input_shapes(options: argparse.Namespace, symbol: mx.sym.Symbol, images: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a batch, by the inputs of a graph; with mixup, labels come as distributions."""
    label = (images, options.num_classes) if options.mixup else (images,)
    shapes = {"data": (images, *options.image_shape), "softmax_label": label}
    return {name: shape for name, shape in shapes.items() if name in symbol.list_arguments()}


def _check_records(options: argparse.Namespace, device_count: int, workers: int) -> Summaries:
    """What the record files hold. Raises UserError where they are damaged or do not fit the options."""
    devices.shares(options.batch_size, device_count)
    if options.data_backend == "imagerecorditer" and workers > 1:
        raise UserError(
            "--data-backend imagerecorditer deals records to workers unevenly: several need --data-backend opencv"
        )
    batch = options.batch_size * workers
    summaries = {}
    # A large training image that does not decode ends the run where it is met; small ones are soon looked at, and
    # ImageRecordIter would take a padded one for grey.
    decoded = options.pad > 0
    for path, decoding in ((options.data_train, decoded), (options.data_train_off, decoded), (options.data_val, True)):
        if path is not None and path not in summaries:
            summaries[path] = recordio.scan(path, decoding)
            recordio.check_labels(path, summaries[path], options.num_classes)
            if path != options.data_val and summaries[path].count < batch:
                of = "" if workers == 1 else f" of {workers} workers"
                raise UserError(
                    f"{path} has {summaries[path].count} records, fewer than --batch-size {options.batch_size}{of}"
                )
    return summaries


def _settings(
    options: argparse.Namespace, rate: schedule.Schedule, summaries: Summaries, workers: int
) -> dict[str, object]:
    """All that the weights follow from, by names that a user understands; a run that is resumed has the same."""
    plan = network_plan(options)
    files = {"training": options.data_train, "later training": options.data_train_off, "validation": options.data_val}
    return {
        "network": options.network or f"ResNet-v2 of depth {options.depth}",
        "width": plan.width,
        "drop rate": plan.drop_rate,
        "shortcut": plan.shortcut,
        "zero-init residual": options.zero_init_residual,
        "BatchNorm momentum": options.bn_mom,
        "classes": options.num_classes,
        "image shape": list(options.image_shape),
        **{f"{name} records": _identity(summaries[path]) for name, path in files.items() if path is not None},
        "batch size": options.batch_size * workers,
        "augmentation": dataclasses.asdict(_augmentation(options)),
        "augmentation off": options.aug_off_epoch,
        "padding": options.pad,
        "mirroring": options.mirror,
        "mixup": options.mixup,
        "reader": options.data_backend,
        "label smoothing": options.label_smoothing,
        "optimizer": options.optimizer,
        "momentum": options.mom,
        "weight decay": options.wd,
        "decayed": options.wd_on,
        "learning rate": dataclasses.asdict(rate),
        "seed": options.seed,
        "dtype": options.dtype,
    }


def _machine(contexts: list[mx.Context], peers: Peers) -> dict[str, object]:
    """What the rounding of a run follows from, besides its settings."""
    return {
        "devices": len(contexts),
        "kind of device": contexts[0].device_type,
        "workers": peers.count,
        "kvstore": peers.store.type,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "MXNet": mx.__version__,
        "executed graph": execution.VERSION,
    }


def _identity(summary: recordio.Summary) -> str:
    return f"{summary.count} images ({summary.digest[:12]})"


def _augmentation(options: argparse.Namespace) -> augment.Augmentation:
    return augment.level(options.aug_level, small_images=options.stem == "cifar")


def _write_header(options: argparse.Namespace, notes: list[object], summaries: Summaries, parameters: int) -> None:
    """Log all that is needed to repeat the run."""
    logging.info(options)
    logging.info(", ".join(f"{name} {value}" for name, value in environment.versions().items()))
    logging.info("%d training images in %s", summaries[options.data_train].count, options.data_train)
    logging.info("%d validation images in %s", summaries[options.data_val].count, options.data_val)
    logging.info("%d parameters", parameters)
    logging.info("Augmentation level %d: %s", options.aug_level, _augmentation(options))
    if options.aug_off_epoch is not None:
        logging.info("From epoch %d on level 1, with %s", options.aug_off_epoch, options.data_train_off)
    for note in notes:
        logging.info(note)


def _warn_of_batch(options: argparse.Namespace, batch: int) -> None:
    """A learning rate goes with a batch size: tell where only one of them is the recipe's."""
    if batch != options.lr_batch and "lr" not in options.given and not options.scale_lr:
        factor = batch / options.lr_batch
        logging.warning(
            "The learning rate is for batches of %d, these are of %d: --scale-lr multiplies it by %g",
            options.lr_batch,
            batch,
            factor,
        )
