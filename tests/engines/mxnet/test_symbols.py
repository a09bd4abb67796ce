import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.engines.mxnet.memory.memonger import planned_megabytes
from mxnet_resnet.plans import architecture
from symbol_resnet import residual_unit, resnet

PUBLISHED = {18: ([2, 2, 2, 2], [64, 64, 128, 256, 512], False), 50: ([3, 4, 6, 3], [64, 256, 512, 1024, 2048], True)}


def forward(symbol, images, params=None, train=False):
    """Bind on images, with given or seeded random parameters: (executor, all of its arrays)."""
    executor = symbol.simple_bind(mx.cpu(), data=images.shape)
    random = np.random.RandomState(0)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if params is not None and name in params:
            array[:] = params[name]
        elif name not in ("data", "softmax_label"):
            spread = 0.1 if name.endswith("weight") else 0.01
            array[:] = random.normal(float(name.endswith(("gamma", "var"))), spread, array.shape)
    executor.forward(is_train=train, data=mx.nd.array(images))
    return executor, {**executor.arg_dict, **executor.aux_dict}


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)


def reference_unit(data, channels, stride, project, name):
    """A pre-activation bottleneck in MXNet's symbolic operators, straight from figure 4e and section 3 of the paper."""
    x, shortcut = data, data
    plan = [(channels // 4, 1, 1), (channels // 4, 3, stride), (channels, 1, 1)]
    for number, (width, kernel, step) in enumerate(plan, start=1):
        x = mx.sym.BatchNorm(x, fix_gamma=False, eps=2e-5, momentum=0.9, name=f"{name}_bn{number}")
        x = mx.sym.Activation(x, act_type="relu", name=f"{name}_relu{number}")
        square = {"kernel": (kernel, kernel), "stride": (step, step), "pad": (kernel // 2, kernel // 2)}
        if number == 1 and project:
            shortcut = mx.sym.Convolution(
                x, kernel=(1, 1), stride=(stride, stride), num_filter=channels, no_bias=True, name=f"{name}_sc"
            )
        x = mx.sym.Convolution(x, num_filter=width, no_bias=True, name=f"{name}_conv{number}", **square)
    return x + shortcut


@pytest.mark.parametrize("stride, project", [(1, False), (1, True), (2, True)])
def test_residual_unit_is_the_papers(stride, project):
    data = np.random.RandomState(0).normal(size=(2, 16, 8, 8)).astype(np.float32)
    ours = residual_unit(mx.sym.var("data"), 16, (stride, stride), not project, "unit")
    reference = reference_unit(mx.sym.var("data"), 16, stride, project, "unit")
    assert sorted(ours.list_arguments()) == sorted(reference.list_arguments())
    executor, params = forward(reference, data, train=True)
    other, _ = forward(ours, data, params, train=True)
    expected, found = executor.outputs[0], other.outputs[0]
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
    executor.backward(mx.nd.ones_like(expected))
    other.backward(mx.nd.ones_like(expected))
    for name, gradient in executor.grad_dict.items():
        np.testing.assert_allclose(other.grad_dict[name].asnumpy(), gradient.asnumpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [18, 50])
def test_published_graphs_have_these_names_and_shapes(shared, depth):
    units, filters, bottleneck = PUBLISHED[depth]
    ours = resnet(units, 4, filters, 1000, "imagenet", bottleneck)
    published = mx.sym.load(str(shared / f"symbols/tornadomeet-resnet-{depth}-symbol.json"))
    assert ours.list_arguments() == published.list_arguments()
    assert ours.list_auxiliary_states() == published.list_auxiliary_states()
    assert ours.infer_shape(data=(2, 3, 224, 224)) == published.infer_shape(data=(2, 3, 224, 224))
    assert ours.get_internals().list_outputs() == published.get_internals().list_outputs()


@pytest.mark.parametrize("depth", [18, 50])
def test_published_graphs_compute_the_same(shared, depth):
    units, filters, bottleneck = PUBLISHED[depth]
    images = np.random.RandomState(0).uniform(0, 255, (2, 3, 64, 64)).astype(np.float32)
    published = mx.sym.load(str(shared / f"symbols/tornadomeet-resnet-{depth}-symbol.json"))
    expected, params = forward(published, images)
    found, _ = forward(resnet(units, 4, filters, 1000, "imagenet", bottleneck), images, params)
    np.testing.assert_allclose(found.outputs[0].asnumpy(), expected.outputs[0].asnumpy(), rtol=1e-5)


@pytest.mark.parametrize("stem, depth", [("cifar", 20), ("cifar", 164), ("imagenet", 18), ("imagenet", 50)])
def test_symbol_and_gluon_net_compute_the_same(images, stem, depth):
    net = models.from_architecture(architecture.symbolic_v2(depth, stem), 7)
    executor, params = forward(symbols.softmax(net), images)
    net.initialize()
    for name, parameter in net.collect_params().items():
        parameter.set_data(params[name])
    expected = mx.nd.softmax(net(mx.nd.array(images))).asnumpy()
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stem, depth", [("imagenet", d) for d in architecture.IMAGENET_UNITS] + [("cifar", 1001)])
def test_every_depth_infers_its_shapes(stem, depth):
    symbol = symbols.softmax(models.from_architecture(architecture.symbolic_v2(depth, stem), 10))
    side = 224 if stem == "imagenet" else 32
    assert symbol.infer_shape(data=(1, 3, side, side))[1] == [(1, 10)]


def test_weight_decay_is_for_weights_and_gammas_only():
    symbol = resnet([1, 1, 1], 3, [16, 16, 32, 64], 10, "cifar10", False)
    optimizer = mx.optimizer.create("nag", sym=symbol, param_idx2name=dict(enumerate(symbol.list_arguments())))
    decayed = {name for name in symbol.list_arguments() if optimizer.wd_mult.get(name, 1.0)}
    kept = {name for name in symbol.list_arguments() if name.endswith(("_beta", "_bias"))}
    assert not decayed & kept
    assert {name for name in symbol.list_arguments() if name.endswith(("_weight", "_gamma"))} <= decayed


def test_memonger_takes_less_memory_and_changes_no_gradient(images):
    arguments = ([2, 2, 2], 3, [16, 16, 32, 64], 10, "cifar10", False)
    results = []
    for memonger in (False, True):
        executor, _ = forward(resnet(*arguments, memonger=memonger), images.repeat(8, axis=0), train=True)
        executor.backward()
        arrays = {**executor.grad_dict, **executor.aux_dict}
        results.append((planned_megabytes(executor), {name: array.asnumpy() for name, array in arrays.items()}))
    (plain, expected), (mirrored, found) = results
    assert mirrored < 0.6 * plain
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_memonger_leaves_alone_what_comes_before_the_unit():
    before = mx.sym.relu(mx.sym.var("data"), name="mine")
    marked = residual_unit(before, 16, (1, 1), True, "unit", memonger=True).attr_dict()
    assert "__force_mirroring__" not in marked.get("mine", {})
    assert marked["unit_conv1"]["__force_mirroring__"] == "True"


def test_wrong_calls_are_told():
    with pytest.raises(ValueError, match="3 stages"):
        resnet([1, 1], 3, [16, 16, 32, 64], 10, "cifar10")
    with pytest.raises(ValueError, match="unknown data type 'mnist'"):
        resnet([1, 1, 1], 3, [16, 16, 32, 64], 10, "mnist")
