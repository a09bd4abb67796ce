"""Graphs that do arithmetic on images and scores are our nets with that inside; MXNet computes them as they stand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mxnet")
pytest.importorskip("torch")

import mxnet as mx

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import emission
from mxnet_resnet.engines.mxnet import nets, symbols
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.plans import architecture
from tests.helpers.twins import draw

SHAPE = (3, 16, 16)
BY_CHANNEL = (1, 3, 1, 1)
MEAN, STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
CONSTANTS = {
    "mean": MEAN.reshape(BY_CHANNEL),
    "std": STD.reshape(BY_CHANNEL),
    "even": np.broadcast_to(MEAN.reshape(BY_CHANNEL), (1, *SHAPE)),
    "uneven": MEAN.reshape(BY_CHANNEL) + np.arange(256).reshape(1, 1, 16, 16) / 10,
    "scale_weight": np.diag(1 / STD)[[2, 0, 1]].reshape(3, 3, 1, 1),
    "scale_bias": -(MEAN / STD)[[2, 0, 1]],
    "first_gamma": np.array([0.5, -1.0, 2.0]),
    "first_beta": np.array([0.1, 0.2, 0.3]),
    "first_moving_mean": MEAN,
    "first_moving_var": STD**2,
}


def normalise(x):
    return mx.sym.broadcast_div(mx.sym.broadcast_sub(x, mx.sym.var("mean")), mx.sym.var("std"))


def split(x):
    parts = zip(mx.sym.SliceChannel(x, num_outputs=3, axis=1), MEAN, STD)
    return mx.sym.Concat(*((channel - mean) / std for channel, mean, std in parts), dim=1)


def freeze(x):
    return mx.sym.BatchNorm(x, name="first", fix_gamma=False, use_global_stats=True, eps=1e-5)


OF_IMAGES = {
    "face nets": lambda x: (x - 127.5) * 0.0078125,
    "a mean and a deviation": normalise,
    "channels apart": split,
    "BGR": lambda x: mx.sym.reverse(normalise(x), axis=1),
    "a frozen convolution": lambda x: mx.sym.Convolution(x, kernel=(1, 1), num_filter=3, name="scale"),
    "a frozen BatchNorm, as of Caffe": freeze,
    "a BatchNorm and a scale": lambda x: freeze(x) * 0.5 + 1,
    "a negative": lambda x: (255 - x) / 100,
    "a large factor": lambda x: (x / 255) * 1000 - 500,
    "a mean image of one colour": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("even")) / 60,
    "numbers of parameters": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("mean") * 1.1) / 60,
}
MORE_THAN_A_FACTOR = {
    "a mean of each pixel": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("uneven")) / 60,
    "one of each pixel, doubled": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("uneven") * 0.5) / 60,
    "a clip": lambda x: mx.sym.clip(x, 20, 200) / 60,
    "less precision": lambda x: mx.sym.cast(mx.sym.cast(normalise(x), "float16"), "float32"),
}
OF_SCORES = {
    "a temperature": lambda scores: scores / 4,
    "several": lambda scores: (3 - scores * 2) * 0.5 + 7,
}


def make(of_images, of_scores=lambda scores: scores, name="preact_resnet20", data_norm="shift"):
    """A net of random arrays behind arithmetic on its images and before such on its scores."""
    plan = replace(architecture.find(name), data_norm=data_norm)
    inner = emission.emit(plan, 10)
    scores = symbols.from_graph(inner)(data=of_images(mx.sym.var("data")))
    graph = symbols.to_graph(of_scores(scores))
    arrays = {**draw(inner.noted_shapes), **{name: array.astype(np.float32) for name, array in CONSTANTS.items()}}
    arrays = {name: array for name, array in arrays.items() if name in graph.variables}
    statistics = {name: array for name, array in arrays.items() if "moving" in name}
    params = {name: array for name, array in arrays.items() if name not in statistics}
    return TrainedNet("net", params, statistics, SHAPE, None, graph)


def check(net):
    """Adopt a net by PyTorch, which gives what MXNet computes of its graph; it as PyTorch has it."""
    images = np.random.RandomState(0).randint(0, 256, (4, *SHAPE)).astype(np.float32)
    engine = engines.choose("torch")
    adopted = engine.adopt(net)
    expected = nets.compute_scores(net, images)
    found = engine.predictor(adopted, engine.choose_devices([], None), 4, "float32").scores(images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
    assert np.ptp(expected, axis=0).min() > 0
    return adopted


@pytest.mark.parametrize("data_norm", [None, "shift", "full"])
@pytest.mark.parametrize("of_images", OF_IMAGES.values(), ids=OF_IMAGES)
def test_arithmetic_on_images_is_the_batchnorm_on_them(of_images, data_norm):
    adopted = check(make(of_images, data_norm=data_norm))
    assert adopted.plan.data_norm and "arithmetic on its images" in adopted.origin


@pytest.mark.parametrize("of_scores", OF_SCORES.values(), ids=OF_SCORES)
def test_arithmetic_on_scores_is_the_classifier(of_scores):
    assert "arithmetic on its scores" in check(make(normalise, of_scores, "resnet20", None)).origin


@pytest.mark.parametrize("of_images", MORE_THAN_A_FACTOR.values(), ids=MORE_THAN_A_FACTOR)
def test_what_is_no_factor_by_channel_is_not_taken_for_one(of_images):
    with pytest.raises(UserError, match="more than a factor and a shift by channel"):
        engines.choose("torch").adopt(make(of_images))


def test_a_path_around_the_arithmetic_is_another_net():
    with pytest.raises(UserError, match="fits no family"):
        engines.choose("torch").adopt(make(lambda x: x / 255 + mx.sym.relu(x)))


def test_frozen_batchnorms_predict_as_others():
    net = make(lambda x: x)
    nodes = [
        replace(node, attrs={**node.attrs, "use_global_stats": "True"}) if node.op == "BatchNorm" else node
        for node in net.graph.nodes
    ]
    frozen = replace(net, graph=replace(net.graph, nodes=tuple(nodes)))
    assert "frozen BatchNorms" in check(frozen).origin


def test_an_embedding_is_told_as_what_it_is():
    net = replace(make(normalise), activation=None, output="an embedding")
    with pytest.raises(UserError, match="not known that net gives scores of classes: its output is an embedding"):
        engines.choose("torch").adopt(net)
