"""This project's ways to train and to predict, on batches that are in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.common import data_type
from benchmarks.prepared import mx
from benchmarks.way import Step
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.mxnet import int8, nets
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.engine import MXNetEngine
from mxnet_resnet.engines.mxnet.graphs import deployment
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.engines.mxnet.ndarrays import to_numpy
from mxnet_resnet.engines.mxnet.predictor import Predictor
from mxnet_resnet.engines.mxnet.session import ModuleSession
from mxnet_resnet.engines.mxnet.symbols import to_graph
from mxnet_resnet.engines.mxnet.training import TrainingModel
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.settings.run import make
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.setup import training_spec
from mxnet_resnet.use.classifier import softmax


def training(depth: int, images: int, dtype: str) -> Step:
    """A step of train_resnet.py's, without reading, metrics and log."""
    return training_step(describe_run(depth, images, dtype=dtype))


def frugal_training(depth: int, images: int, dtype: str) -> Step:
    """The same with --memonger."""
    return training_step(describe_run(depth, images, dtype=dtype, memonger=True))


def training_step(settings: RunSettings) -> Step:
    """A step of that run, on the batch that it is given or on a random one."""
    module = begin(settings).module
    random = as_data_batch(a_batch(settings))

    def step(batch: mx.io.DataBatch = random) -> None:
        module.forward_backward(batch)
        module.update()
        mx.nd.waitall()

    return step


def model_of(settings: RunSettings) -> TrainingModel:
    """The net of a run on the CPU, with a constant learning rate."""
    engine = MXNetEngine()
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    return engine.model(settings.net.plan, training_spec(settings, Schedule(0.01)), devices)


def begin(settings: RunSettings) -> ModuleSession:
    """The run, ready for its first step."""
    model = model_of(settings)
    model.prepare()
    return model.start(KVStoreGroup(mx.kvstore.create(settings.devices.store)), None, 0)


def describe_run(depth: int, images: int, **more: Any) -> RunSettings:
    """The settings of a run on the CPU; ``more`` are values of flags of train_resnet.py."""
    return make(data_type=data_type(depth), depth=depth, batch_size=images, **{"gpus": [], **more})


def a_batch(settings: RunSettings) -> Batch:
    """Random images (N, 3, H, W), 0..255, and labels (N,)."""
    rng = np.random.default_rng(0)
    shape = (settings.batch_size, *settings.data.image_shape)
    pixels = rng.uniform(0, 255, shape).astype(np.float32)
    labels = rng.integers(settings.data.classes, size=settings.batch_size).astype(np.float32)
    return Batch(pixels, labels, settings.batch_size)


def prediction(depth: int, images: int, kind: str) -> Step:
    """Batches through a net as predict.py has it, in float32 or bfloat16, or as exported in int8; of random weights."""
    net = random_net(depth)
    batch = a_batch(describe_run(depth, images)).images
    if kind == "int8":
        quantized = int8.quantize(deployment.fold(net), batch)
        executor = nets.bind(quantized.graph.with_activation(quantized.activation), quantized.arrays)
        return lambda: executor.compute(batch)
    predictor = Predictor(net, mx.cpu(), images, kind)
    return lambda: softmax(predictor.scores(batch))


def random_net(depth: int) -> TrainedNet:
    """A net with random weights that has seen one batch, so that its statistics are of images."""
    settings = describe_run(depth, 8)
    module = begin(settings).module
    module.forward_backward(as_data_batch(a_batch(settings)))
    mx.nd.waitall()
    params, statistics = map(to_numpy, module.get_params())
    graph, data = to_graph(model_of(settings).symbol).without_softmax(), settings.data
    return TrainedNet(f"ResNet-{depth}", params, statistics, data.image_shape, data.classes, graph)
