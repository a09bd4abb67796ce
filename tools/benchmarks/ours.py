"""This project's ways to train and to predict, on batches that are in memory."""

from __future__ import annotations

import argparse
import dataclasses

import mxnet as mx
import numpy as np

from mxnet_resnet.data.batch import Batch
from benchmarks.common import data_type
from benchmarks.way import Step
from mxnet_resnet.engines.mxnet import int8, optimizer
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.engines.mxnet.group import Peers
from mxnet_resnet.settings import options, schedule
from mxnet_resnet.train import trainer
from mxnet_resnet.use import deployment
from mxnet_resnet.use.deployment import Deployment


def training(depth: int, images: int, dtype: str) -> Step:
    """A step of train_resnet.py's, without reading, metrics and log."""
    return training_step(parsed(depth, images, dtype))


def frugal_training(depth: int, images: int, dtype: str) -> Step:
    """The same with --memonger."""
    return training_step(parsed(depth, images, dtype, "--memonger"))


def training_step(run: argparse.Namespace) -> Step:
    """A step of that run, on the batch that it is given or on a random one."""
    devices = [mx.cpu()]
    graph = trainer.training_graph(run, trainer.build_net(run), devices)
    module = trainer.bind(run, graph, devices, plan=trainer.plan_memory(run, graph, len(devices)))
    optimizer.install(module, run, schedule.Schedule(0.01), Peers(mx.kvstore.create(run.kv_store)), step=0)
    batch = a_batch(run)

    def step(batch: mx.io.DataBatch = batch) -> None:
        module.forward_backward(batch)
        module.update()
        mx.nd.waitall()

    return step


def prediction(depth: int, images: int, kind: str) -> Step:
    """Batches through a net as predict.py has it, in float32 or bfloat16, or as exported in int8; of random weights."""
    net = random_net(depth)
    batch = a_batch(parsed(depth, images)).data[0].asnumpy()
    if kind == "int8":
        symbol, args, auxs = int8.in_int8(deployment.folded(net), batch, "naive")
    else:
        symbol, (args, auxs) = execution.for_prediction(net.symbol, (net.args, net.auxs), kind)
    computing = dataclasses.replace(net, symbol=symbol, args=args, auxs=auxs).computing()
    return lambda: computing(batch)


def parsed(depth: int, images: int, dtype: str = "float32", more: str = "") -> argparse.Namespace:
    """The options of a run on the CPU; ``more`` are flags of train_resnet.py."""
    flags = f"--data-type {data_type(depth)} --depth {depth} --batch-size {images} --dtype {dtype} --gpus none {more}"
    return options.parse(flags.split())


def random_batch(run: argparse.Namespace) -> Batch:
    """Random images (N, 3, H, W), 0..255, and labels (N,)."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (run.batch_size, *run.image_shape)).astype(np.float32)
    return Batch(pixels, rng.integers(run.num_classes, size=run.batch_size).astype(np.float32), run.batch_size)


def a_batch(run: argparse.Namespace) -> mx.io.DataBatch:
    """The same in MXNet's form."""
    return as_data_batch(random_batch(run))


def random_net(depth: int) -> Deployment:
    """A net with random weights that has seen one batch, so that its statistics are of images."""
    run = parsed(depth, 8)
    symbol = trainer.build_symbol(run, trainer.build_net(run))
    module = trainer.bind(run, symbol, [mx.cpu()])
    module.forward_backward(a_batch(run))
    mx.nd.waitall()
    args, auxs = module.get_params()
    scores = mx.sym.softmax(symbol.get_children()[0], name="softmax")
    return Deployment(scores, args, auxs, run.image_shape, run.num_classes)
