"""Graphs that are executed compute what the saved ones do."""

import json
from collections import Counter

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import folding
from mxnet_resnet.engines.mxnet import compat, precision
from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.engines.mxnet.ndarrays import to_numpy
from mxnet_resnet.engines.mxnet.symbols import from_graph, to_graph
from mxnet_resnet.settings.run import make, parse
from tests.helpers.runs import model_of


def operators(symbol):
    return Counter(node["op"] for node in json.loads(symbol.tojson(remove_amp_cast=False))["nodes"])


def step(symbol, images, labels, params=None):
    """The outputs, the gradients and the states after a step on a bound graph, and the parameters before it."""
    module = mx.mod.Module(symbol, label_names=["softmax_label"])
    module.bind([("data", images.shape)], [("softmax_label", labels.shape)])
    module.init_params(mx.init.Xavier(magnitude=2), *params or (None, None))
    before = [{name: array.copy() for name, array in arrays.items()} for arrays in module.get_params()]
    mx.random.seed(3)  # of dropout
    module.forward_backward(mx.io.DataBatch([images], [labels]))
    mx.nd.waitall()
    pairs = zip(module._exec_group.param_names, module._exec_group.grad_arrays)
    gradients = {name: arrays[0].asnumpy() for name, arrays in pairs if arrays[0] is not None}
    states = {name: array.asnumpy() for name, array in module.get_params()[1].items()}
    return module.get_outputs()[0].asnumpy(), gradients, states, before


NETS = [
    "--data-type cifar10 --depth 20",
    "--data-type cifar10 --network preact_resnet164",
    "--data-type cifar10 --network preact_resnet20 --shortcut A",
    "--data-type cifar10 --network resnet20 --drop-rate 0.3",
    "--data-type imagenet --depth 18 --num-classes 10",
    "--data-type imagenet --network resnet50 --num-classes 10",
]


@pytest.mark.parametrize("flags", NETS)
def test_the_rewritten_graph_is_the_same_function(flags):
    """Norms of the differences over those of the gradients: a single ReLU near 0 may flip and change an element."""
    parsed = parse(flags.split())
    symbol = model_of(parsed).symbol
    side = 32 if "cifar10" in flags else 64
    rng = np.random.default_rng(5)
    images = mx.nd.array(rng.uniform(0, 255, (4, 3, side, side)))
    labels = mx.nd.array(rng.integers(10, size=4))
    outputs, gradients, states, params = step(symbol, images, labels)
    rounding = 1e-5 * max(map(np.linalg.norm, gradients.values()))
    for pad in (False, True):
        executed = execution.for_cpu(symbol, pad_images=pad)
        assert executed.list_arguments() == symbol.list_arguments()
        assert executed.list_auxiliary_states() == symbol.list_auxiliary_states()
        assert executed.list_outputs() == symbol.list_outputs()
        found, other_gradients, other_states, _ = step(executed, images, labels, params)
        np.testing.assert_allclose(found, outputs, atol=1e-5)
        assert gradients.keys() == other_gradients.keys()
        for name, gradient in gradients.items():
            difference = np.linalg.norm(other_gradients[name] - gradient)
            assert difference <= 2e-3 * np.linalg.norm(gradient) + rounding, name
        for name, state in states.items():
            np.testing.assert_allclose(other_states[name], state, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_preactivation_net_has_all_of_its_relus_fused():
    parsed = parse(["--data-type", "cifar10", "--depth", "20"])
    symbol = model_of(parsed).symbol
    before, after = operators(symbol), operators(execution.for_cpu(symbol))
    assert (before["BatchNorm"], before["Activation"], before["Pooling"]) == (20, 19, 1)
    assert (after["BatchNorm"], after["Activation"], after["Pooling"]) == (1, 0, 0)  # bn_data has no ReLU
    assert after[execution.NORM_WITH_RELU] == 19
    unfused = operators(execution.for_cpu(symbol, fuse=False))
    assert (unfused["BatchNorm"], unfused["Activation"], unfused["Pooling"]) == (20, 19, 0)


def test_a_graph_that_is_not_trained_keeps_its_pooling():
    parsed = parse(["--data-type", "cifar10", "--depth", "8"])
    net = model_of(parsed).symbol.get_children()[0]
    params = random_parameters(net, mx.nd.zeros((2, 3, 32, 32)))
    found = operators(for_prediction(net, params)[0])
    assert (found["Pooling"], found["mean"]) == (1, 0)


def test_a_norm_that_others_read_too_is_not_fused():
    norm = mx.sym.BatchNorm(mx.sym.var("data"), name="norm")
    both = mx.sym.Activation(norm, act_type="relu", name="relu") + norm
    assert operators(execution.for_cpu(both))["BatchNorm"] == 1


def test_in_bfloat16_the_first_convolution_has_four_channels_and_the_ends_are_float32():
    parsed = parse(["--data-type", "cifar10", "--depth", "8"])
    symbol = execution.for_cpu(model_of(parsed).symbol, pad_images=True)
    lowered = precision.lower(symbol, "bfloat16")
    internals = lowered.get_internals()
    names = internals.list_outputs()
    shapes = dict(zip(names, internals.infer_shape(data=(2, 3, 32, 32))[1]))
    types = dict(zip(names, internals.infer_type(data="float32")[1]))
    assert shapes["bn_data_padded_output"] == (2, 4, 32, 32)
    assert shapes["conv0_weight"] == (16, 3, 3, 3)
    assert types["softmax_output"] == types["data"] == types["conv0_weight"] == np.float32


def test_training_fuses_and_pads_in_bfloat16_alone():
    for dtype, pads in (("float32", False), ("bfloat16", True)):
        graph = model_of(make(data_type="cifar10", depth=8, dtype=dtype, gpus=[])).executed
        assert operators(graph)[execution.NORM_WITH_RELU] == 7
        assert ("bn_data_padded_output" in graph.get_internals().list_outputs()) == pads


def test_fusing_changes_no_gradient_in_float32():
    parsed = parse("--data-type cifar10 --depth 20".split())
    symbol = model_of(parsed).symbol
    rng = np.random.default_rng(5)
    images, labels = mx.nd.array(rng.uniform(0, 255, (8, 3, 32, 32))), mx.nd.array(rng.integers(10, size=8))
    _, apart, states, params = step(execution.for_cpu(symbol, fuse=False), images, labels)
    _, fused, other_states, _ = step(execution.for_cpu(symbol), images, labels, params)
    found = {**fused, **other_states}
    for name, expected in {**apart, **states}.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_fusing_changes_no_gradient_in_bfloat16_where_the_images_are_padded():
    """On the plain layout that three channels leave, it does: 0.86 is the cosine with the float32 gradient then."""
    if not compat.has_bfloat16():
        pytest.skip("this CPU has no AVX512-BF16")
    parsed = parse(["--data-type", "cifar10", "--depth", "20"])
    symbol = model_of(parsed).symbol
    rng = np.random.default_rng(5)
    images, labels = mx.nd.array(rng.uniform(0, 255, (32, 3, 32, 32))), mx.nd.array(rng.integers(10, size=32))
    _, gradients, _, params = step(symbol, images, labels)

    def lowered(fuse):
        graph = precision.lower(execution.for_cpu(symbol, fuse, pad_images=True), "bfloat16")
        found = step(graph, images, labels, params)[1]
        return np.concatenate([found[name].ravel() for name in gradients])

    exact = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    fused = lowered(True)
    np.testing.assert_array_equal(fused, lowered(False))
    assert fused @ exact >= 0.92 * np.linalg.norm(fused) * np.linalg.norm(exact)


def hand_made(**convolution):
    """A graph that tells no shapes: convolution, norm, ReLU, pooling, and a dense layer with a norm and a ReLU."""
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=6, name="conv", **convolution)
    x = mx.sym.Activation(mx.sym.BatchNorm(x, fix_gamma=False, name="norm"), act_type="relu")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg")
    x = mx.sym.FullyConnected(x, num_hidden=5, name="dense")
    return mx.sym.Activation(mx.sym.BatchNorm(x, fix_gamma=False, name="dense_norm"), act_type="relu").softmax()


def random_parameters(symbol, images):
    rng = np.random.default_rng(2)
    shapes, _, states = symbol.infer_shape(data=images.shape)
    args = {name: rng.normal(0, 0.3, shape) for name, shape in zip(symbol.list_arguments(), shapes) if name != "data"}
    auxs = {name: rng.uniform(0.5, 1, shape) for name, shape in zip(symbol.list_auxiliary_states(), states)}
    return tuple({name: mx.nd.array(array) for name, array in arrays.items()} for arrays in (args, auxs))


def for_prediction(symbol, params, dtype="float32"):
    executed, *own = execution.for_prediction(to_graph(symbol), *map(to_numpy, params), dtype)
    return executed, own


def predicted(symbol, params, images):
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
    executor.copy_params_from(*params)
    return executor.forward(is_train=False, data=images)[0].asnumpy()


@pytest.mark.parametrize("convolution", [{}, {"no_bias": True}, {"num_group": 3}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_graph_from_elsewhere_predicts_the_same(convolution, dtype):
    """Norms behind dense layers stay, groups are not padded, and shapes are those of the parameters."""
    if dtype == "bfloat16" and not compat.has_bfloat16():
        pytest.skip("this CPU has no AVX512-BF16")
    symbol = hand_made(**convolution)
    images = mx.nd.random.uniform(0, 1, (4, 3, 8, 8))
    params = random_parameters(symbol, images)
    executed, own = for_prediction(symbol, params, dtype)
    assert operators(executed)["BatchNorm"] == 1
    np.testing.assert_allclose(
        predicted(executed, own, images), predicted(symbol, params, images), atol=1e-6 if dtype == "float32" else 0.02
    )


def test_float16_parameters_predict():
    symbol, images = hand_made(), mx.nd.random.uniform(0, 1, (4, 3, 8, 8))
    params = random_parameters(symbol, images)
    halved = tuple({name: array.astype("float16") for name, array in arrays.items()} for arrays in params)
    executed, own = for_prediction(symbol, halved)
    np.testing.assert_allclose(predicted(executed, own, images), predicted(symbol, params, images), atol=1e-3)


@pytest.mark.parametrize("axis", [-1, 2])
def test_a_norm_over_another_axis_is_not_fused(axis):
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=6)
    x = mx.sym.Activation(mx.sym.BatchNorm(x, axis=axis), act_type="relu")
    assert operators(execution.for_cpu(x))["BatchNorm"] == 1


def test_without_onednn_nothing_is_fused(monkeypatch):
    monkeypatch.setenv("MXNET_MKLDNN_ENABLED", "0")
    assert operators(execution.for_cpu(hand_made()))["BatchNorm"] == 2


def test_int8_has_no_bfloat16():
    quantized = mx.sym.contrib.quantize_v2(mx.sym.var("data"), min_calib_range=0.0, max_calib_range=1.0)[0]
    with pytest.raises(UserError, match="computes in int8: it cannot do so in bfloat16"):
        for_prediction(quantized, ({}, {}), "bfloat16")


def test_what_is_left_out_passes_on_the_output_that_it_reads():
    halves = mx.sym.split(mx.sym.var("data"), num_outputs=2)
    folded, _, _ = folding.fold(to_graph(mx.sym.Dropout(halves[1])), {}, {})
    images = mx.nd.arange(8).reshape((1, 2, 2, 2))
    np.testing.assert_array_equal(predicted(from_graph(folded), ({}, {}), images), images.asnumpy()[:, 1:])


def test_a_plan_of_memory_keeps_norms_and_relus_apart():
    parsed = parse(["--data-type", "cifar10", "--depth", "8", "--memonger"])
    graph = model_of(parsed).executed
    assert operators(graph)["Activation"] == 7 and not operators(graph)[execution.NORM_WITH_RELU]
