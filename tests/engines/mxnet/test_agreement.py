"""The family of nets: the same numbers as implementations that are not ours: torch-resnet, Gluon's, GluonCV's."""

import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon.model_zoo import vision

import mxnet_resnet
from mxnet_resnet.engines.graphs import match
from mxnet_resnet.engines.mxnet import blocks, models
from mxnet_resnet.engines.mxnet.symbols import to_graph
from mxnet_resnet.plans import layouts
from tests.helpers.family import DEEP, LARGE, SHALLOW, SMALL, WIDE, both, images, randomise, relative

SHORTCUTS = {
    "identity": "IdentityShortcut",
    "projection": "ProjectionShortcut",
    "full_projection": "FullProjectionShortcut",
    "convolution": "ConvolutionShortcut",
}


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("torch_resnet")
    return pytest.importorskip("torch")


def theirs_with_random_weights(torch, name, *arguments, **options):
    import torch_resnet

    torch.manual_seed(0)
    net = getattr(torch_resnet, name)(*arguments, **options)
    net.set_head(torch.nn.Linear(net.out_planes, 10))
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    scale = min(1, 5 / len(norms) ** 0.5)  # lest the scores of deep nets overflow
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5 * scale, 1.5 * scale)
        torch.nn.init.normal_(norm.bias, std=0.1)
        torch.nn.init.normal_(norm.running_mean, std=0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net.eval()


def take_weights(net, theirs):
    """Give ``net`` the parameters of a torch-resnet net; what each is called there, by our names."""
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    _, names = layouts.recognise({name: array.shape for name, array in arrays.items()}, layouts.TORCH_LAYOUTS)
    assert names.keys() == net.collect_params().keys()
    net.initialize()
    for name, parameter in net.collect_params().items():
        parameter.set_data(mx.nd.array(arrays[names[name]]))
    return names


def difference_from(torch, theirs, net, side):
    take_weights(net, theirs)
    data = images(side)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(data)).numpy()
    return relative(net(mx.nd.array(data)).asnumpy(), expected)


@pytest.mark.parametrize(
    "name, side",
    [(name, 32) for name in both(SMALL + WIDE)]
    + [(name, 64) for name in both(LARGE[:4])]
    + [pytest.param(name, 64, marks=pytest.mark.slow) for name in both(LARGE[4:])]
    + [pytest.param(name, 32, marks=pytest.mark.slow) for name in both(DEEP)],
)
def test_every_class_of_torch_resnet_computes_the_same(torch, name, side):
    theirs = theirs_with_random_weights(torch, name)
    assert difference_from(torch, theirs, getattr(mxnet_resnet, name)(classes=10), side) < 1e-4


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("name", ["ResNet20", "PreActResNet20"])
def test_shortcuts_of_torch_resnet_compute_the_same(torch, name, shortcut):
    import torch_resnet

    theirs = theirs_with_random_weights(torch, name, shortcut=getattr(torch_resnet, SHORTCUTS[shortcut]))
    net = getattr(mxnet_resnet, name)(classes=10, shortcut=shortcut)
    assert difference_from(torch, theirs, net, 32) < 1e-4


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("kind, block", [("ResNet", "Bottleneck"), ("PreActResNet", "PreActBottleneck")])
def test_shortcuts_of_torch_resnets_bottlenecks_compute_the_same(torch, kind, block, shortcut):
    import torch_resnet

    options = {"small_images": True, "width": 2}
    base = getattr(torch_resnet.preact_resnet if kind.startswith("PreAct") else torch_resnet.resnet, block)
    choice = getattr(torch_resnet, SHORTCUTS[shortcut])
    theirs = theirs_with_random_weights(torch, kind, SHALLOW, base, shortcut=choice, **options)
    net = getattr(models, kind)(SHALLOW, getattr(blocks, block), shortcut=shortcut, classes=10, **options)
    assert difference_from(torch, theirs, net, 20) < 1e-4


@pytest.mark.parametrize("small_images", [True, False])
@pytest.mark.parametrize("name, width", [("ResNet18", 1), ("ResNet50", 1), ("PreActResNet18", 2)])
def test_small_and_large_variants_of_torch_resnet_compute_the_same(torch, name, width, small_images):
    options = {"small_images": small_images, "width": width}
    theirs = theirs_with_random_weights(torch, name, **options)
    assert difference_from(torch, theirs, getattr(mxnet_resnet, name)(classes=10, **options), 33) < 1e-4


@pytest.mark.parametrize(
    "name, options",
    [("ResNet20", {}), ("PreActResNet20", {"shortcut": "identity"}), ("PreActResNet50", {"small_images": True})],
)
def test_gradients_are_those_of_torch_resnet(torch, name, options):
    """In double precision: in single, a ReLU whose input is almost zero may open in one net alone."""
    import torch_resnet

    choices = {key: getattr(torch_resnet, SHORTCUTS[value]) for key, value in options.items() if key == "shortcut"}
    theirs = theirs_with_random_weights(torch, name, **{**options, **choices}).double().train()
    net = getattr(mxnet_resnet, name)(classes=10, **options)
    names = take_weights(net, theirs)
    net.cast("float64")
    data = images(16, 4).astype(np.float64)
    theirs(torch.from_numpy(data)).square().sum().backward()
    with autograd.record():
        loss = (net(mx.nd.array(data, dtype="float64")) ** 2).sum()
    loss.backward()
    expected = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters()}
    statistics = theirs.state_dict()
    compared = 0
    for key, parameter in net.collect_params().items():
        if names[key] in expected:
            assert relative(parameter.grad().asnumpy(), expected[names[key]]) < 1e-4, key
            compared += 1
        elif key.endswith("moving_mean"):
            assert relative(parameter.data().asnumpy(), statistics[names[key]].numpy()) < 1e-4, key
    assert compared == len(expected)


@pytest.fixture(scope="module")
def gluoncv():
    """GluonCV refuses a PyTorch of today, and needs none."""
    if "gluoncv" not in sys.modules:
        there, hidden = "torch" in sys.modules, sys.modules.get("torch")
        sys.modules["torch"] = None
        try:
            import gluoncv  # noqa: F401
        except Exception as error:  # of many kinds, in it and in what it imports
            pytest.skip(f"GluonCV cannot be imported: {error}")
        finally:
            del sys.modules["torch"]
            if there:
                sys.modules["torch"] = hidden
    return sys.modules["gluoncv"].model_zoo


def assert_same_as_the_zoos(name, theirs, classes, side):
    theirs = randomise(theirs, side)
    net = mxnet_resnet.build(name, classes=classes)
    names = match.match_names(*(to_graph(each(mx.sym.var("data"))) for each in (net, theirs)))
    assert names is not None
    assert set(names.values()) - {"data"} == set(theirs.collect_params())
    net.initialize()
    for key, parameter in net.collect_params().items():
        parameter.set_data(theirs.collect_params()[names[key]].data())
    data = mx.nd.array(images(side))
    assert relative(net(data).asnumpy(), theirs(data).asnumpy()) < 1e-4


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet50_v1", "resnet18_v2", "resnet50_v2"])
def test_gluons_model_zoo_computes_the_same(name):
    assert_same_as_the_zoos(f"gluon_{name}", getattr(vision, name)(classes=20), 20, 64)


@pytest.mark.parametrize(
    "name, prefix, classes, side",
    [
        ("resnet18_v1b", "gluon_", 1000, 64),
        ("resnet50_v1b", "gluon_", 1000, 64),
        ("cifar_resnet20_v1", "gluoncv_", 10, 32),
        ("cifar_resnet20_v2", "gluoncv_", 10, 32),
        ("cifar_wideresnet16_10", "gluoncv_", 10, 32),
    ],
)
def test_gluoncvs_model_zoo_computes_the_same(gluoncv, name, prefix, classes, side):
    assert_same_as_the_zoos(prefix + name, gluoncv.get_model(name), classes, side)


def test_graphs_that_compute_different_things_do_not_match():
    data = mx.sym.var("data")
    one = mxnet_resnet.build("gluon_resnet50_v1b", classes=20)(data)
    other = mxnet_resnet.build("resnet50", classes=20)(data)
    assert match.match_names(to_graph(one), to_graph(other)) == {name: name for name in one.list_inputs()}
    v2 = mxnet_resnet.build("gluoncv_cifar_resnet20_v2", classes=10)(data)
    for options in ({"stem_norm": True}, {"shortcut": "projection"}, {"data_norm": "full"}, {"classes": 11}):
        changed = mxnet_resnet.build("gluoncv_cifar_resnet20_v2", **{"classes": 10, **options})
        assert match.match_names(to_graph(v2), to_graph(changed(data))) is None
