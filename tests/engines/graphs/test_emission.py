"""Graphs written from plans are those that MXNet traces from the nets in Gluon, node for node."""

from dataclasses import replace
from itertools import product

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import emission, trained
from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import MODELS
from mxnet_resnet.runs.graph import parse

SHALLOW = ((1, 8), (2, 8), (1, 16), (2, 24))
KINDS = {
    "basic": "resnet20",
    "bottleneck": "resnet164",
    "preact_basic": "preact_resnet20",
    "preact_bottleneck": "preact_resnet164",
}
VARIANTS = [
    {},
    *({"shortcut": name} for name in architecture.SHORTCUT_NAMES),
    *({"shortcut": "identity", "dimensions": ((1, 6), (1, planes), (1, 30))} for planes in (6, 7, 12, 17)),
    *({"shortcut": "centered_identity", "dimensions": ((1, 6), (1, planes), (1, 30))} for planes in (6, 7, 12, 23, 30)),
    *({"data_norm": name} for name in architecture.DATA_NORMS),
    {"stem_norm": False},
    {"stem_norm": True, "stem_relu": False},
    {"small_images": False},
    {"project_first": True, "shortcut": "identity"},
    {"width": 3},
    {"epsilon": 0.001, "he_init": False},
]


def check_same(plan, classes=10, image_shape=None, smoothing=0.0, workspace=512, **options):
    """Assert that the graph written is the one traced, to the order of nodes and the last of their settings."""
    net = models.from_architecture(plan, classes, **options)
    traced = parse(symbols.softmax(net, workspace, image_shape, smoothing).tojson())
    options.update(image_shape=image_shape, workspace=workspace)
    written = emission.emit_training(plan, classes, smoothing=smoothing, **options)
    for node, expected in zip(written.nodes, traced.nodes):
        assert node == expected
    assert written == traced
    assert emission.emit(plan, classes, **options) == traced.without_softmax()
    assert trained.count_layers(written) == models.count_layers(net)
    assert trained.count_parameters(written, plan) == models.count_parameters(net)


def mark_deep(name):
    deep = sum(units for units, _ in MODELS[name].dimensions[1:]) > 100
    return pytest.param(name, marks=pytest.mark.slow) if deep else name


@pytest.mark.parametrize("name", map(mark_deep, MODELS))
def test_every_named_net_is_the_traced_one(name):
    check_same(MODELS[name])


@pytest.mark.parametrize("block", KINDS)
def test_every_variant_is_the_traced_one(block):
    plan = replace(MODELS[KINDS[block]], dimensions=SHALLOW)
    bottlenecks = [{"stride_first": True}, {"bias": True}]
    for variant in VARIANTS + (bottlenecks if plan.bottleneck else [{"drop_rate": 0.25}]):
        check_same(replace(plan, **variant))
    check_same(replace(plan, block=block))
    for image_shape, zero_init_residual, he_init in product((None, (3, 40, 48)), (False, True), (False, True)):
        check_same(replace(plan, he_init=he_init), 7, image_shape, zero_init_residual=zero_init_residual)
    check_same(plan, None, (3, 32, 32), smoothing=0.1, workspace=256, bn_momentum=0.99)


@pytest.mark.parametrize("stem, depth", [("cifar", 8), ("cifar", 26), ("cifar", 173), ("imagenet", 18)])
def test_symbolic_depths_are_the_traced_ones(stem, depth):
    check_same(architecture.symbolic_v2(depth, stem), 1000)


def test_mxnet_computes_what_is_written():
    plan = replace(MODELS["preact_resnet20"], dimensions=SHALLOW, shortcut="centered_identity")
    symbol = symbols.from_graph(emission.emit_training(plan, 5))
    executor = symbol.simple_bind(mx.cpu(), data=(2, 3, 32, 32))
    for name, array in executor.arg_dict.items():
        array[:] = 1 if name.endswith("gamma") else mx.nd.random.normal(0, 0.1, array.shape)
    executor.forward(is_train=True)
    np.testing.assert_allclose(executor.outputs[0].asnumpy().sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"block": "mine"}, "the block 'mine' is none of basic, bottleneck, preact_basic, preact_bottleneck"),
        ({"shortcut": "Z"}, "there is no shortcut 'Z': it is one of A, B, C"),
        ({"data_norm": "half"}, "there is no data_norm 'half'"),
        ({"width": 0}, "width 0 is not a whole number"),
        ({"dimensions": ((1, 16),)}, "dimensions .* are not"),
        ({"dimensions": ((1, 16), (1, 8)), "shortcut": "A"}, r"fewer channels out \(8\) than in \(16\)"),
        ({"bottleneck": True, "drop_rate": 0.3}, "bottleneck units have no dropout"),
    ],
)
def test_what_no_net_can_be_is_told(changes, message):
    with pytest.raises(UserError, match=message):
        emission.emit(replace(MODELS["resnet20"], **changes), 10)
    with pytest.raises(UserError, match="classes 0 is not a whole number"):
        emission.emit(MODELS["resnet20"], 0)
    with pytest.raises(UserError, match="bn_momentum 2 is not in"):
        emission.emit(MODELS["resnet20"], 10, bn_momentum=2)
