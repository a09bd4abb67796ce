"""The values that nets begin with: laws, streams, and that MXNet begins with them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mxnet_resnet.engines import initial
from mxnet_resnet.engines.graphs import emission
from mxnet_resnet.plans.architecture import MODELS
from mxnet_resnet.runs.graph import Graph, Node, Output
from mxnet_resnet.settings.run import parse
from tests.helpers.runs import begin, train_arguments

WEIGHT = (64, 128, 3, 3)  # fans of 1152 in and 576 out


def draw(law, shape, name="conv0_weight", seed=0):
    """An array of a law as it is noted, or None where it is left out."""
    node = Node("null", name, {} if law is None else {"__init__": law if isinstance(law, str) else json.dumps(law)})
    return initial.draw(Graph((node,), (Output(0),)), {name: shape}, seed)[0].get(name)


@pytest.mark.parametrize(
    "law, deviation, bound",
    [
        (["xavier", {"rnd_type": "gaussian", "factor_type": "out", "magnitude": 2}], (2 / 576) ** 0.5, None),
        (["xavier", {"rnd_type": "gaussian", "factor_type": "in", "magnitude": 2}], (2 / 1152) ** 0.5, None),
        (["xavier", {}], (1 / 864) ** 0.5, (3 / 864) ** 0.5),
        (["Uniform", {"scale": 0.2}], 0.2 / 3**0.5, 0.2),
        (["normal", {"sigma": 0.3}], 0.3, None),
        (None, (2 / 1152) ** 0.5, None),
    ],
)
def test_laws_have_their_deviations(law, deviation, bound):
    array = draw(law, WEIGHT)
    assert (array.shape, array.dtype) == (WEIGHT, np.float32)
    assert array.std() == pytest.approx(deviation, rel=0.02) and abs(array.mean()) < 0.02 * deviation
    largest = np.abs(array).max()
    assert largest > 3.5 * deviation if bound is None else 0.99 * bound < largest <= bound


@pytest.mark.parametrize(
    "law, name, value",
    [
        ("ones", "a_weight", 1),
        ("zeros", "a_gamma", 0),
        (["zero", {}], "a_gamma", 0),
        (["constant", {"value": 0.5}], "a_bias", 0.5),
        (None, "a_gamma", 1),
        (None, "a_moving_var", 1),
        *((None, f"a_{kind}", 0) for kind in ("bias", "beta", "moving_mean")),
    ],
)
def test_laws_without_chance(law, name, value):
    np.testing.assert_array_equal(draw(law, (5,), name), np.full(5, value, np.float32))


@pytest.mark.parametrize("law, name", [(["bilinear", {}], "a_weight"), (["xavier", {}], "a_bias"), (None, "a_state")])
def test_what_only_an_engine_knows_is_left_out(law, name):
    assert draw(law, (5,), name) is None


def test_each_array_has_its_own_stream():
    law = ["normal", {"sigma": 1}]
    one = draw(law, (40,))
    np.testing.assert_array_equal(one, draw(law, (40,)))
    for other in (draw(law, (40,), seed=1), draw(law, (40,), "conv1_weight")):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.6
    plan = MODELS["resnet20"]
    shallow, deep = (
        initial.draw(graph, graph.noted_shapes, 3)
        for graph in (emission.emit(plan, 10), emission.emit(replace(plan, dimensions=((1, 16), (1, 16), (1, 32))), 10))
    )
    np.testing.assert_array_equal(shallow[0]["stage2_unit1_conv2_weight"], deep[0]["stage2_unit1_conv2_weight"])


def test_every_array_of_every_net_is_drawn():
    for name in ("resnet18_v2", "gluon_resnet50_v1", "preact_wide_resnet28_10", "gluoncv_cifar_resnet20_v2"):
        graph = emission.emit_training(MODELS[name], 10, zero_init_residual=True)
        shapes = {key: shape for key, shape in graph.noted_shapes.items() if len(shape) < 4}  # which are fast
        params, statistics = initial.draw(graph, shapes, 0)
        assert {**params, **statistics}.keys() == shapes.keys()
        assert set(statistics) == {key for key in shapes if key.endswith(("_moving_mean", "_moving_var"))}


@pytest.mark.parametrize("network", ["--depth 8", "--network resnet20 --zero-init-residual"])
def test_mxnet_begins_with_them(digits, tmp_path, network):
    settings = parse(train_arguments(digits, tmp_path, "--seed", "5", *network.split()))
    graph = emission.emit(settings.net.plan, 10, zero_init_residual="zero" in network)
    expected = initial.draw(graph, graph.noted_shapes, 5)
    found = begin(settings).snapshot()
    for arrays, others in zip((found.params, found.statistics), expected):
        assert arrays.keys() == others.keys()
        for name, array in others.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)
