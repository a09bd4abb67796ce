"""The nets on PyTorch as a library: what torch-resnet's users call, and its state_dicts, loaded strictly both ways."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

pytest.importorskip("torch")

import torch

import mxnet_resnet.torch as library
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import nets
from mxnet_resnet.plans import architecture
from tests.helpers import REPOSITORY

WITHOUT_MXNET = """
import sys
sys.modules["mxnet"] = None
import torch
from mxnet_resnet.torch import PreActResNet20
assert PreActResNet20(classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
"""
SMALL = {"small_images": True}
VARIANTS = [
    ("ResNet18", SMALL),
    ("PreActResNet18", SMALL),
    ("ResNet50", {"width": 2}),
    ("PreActResNet50", {"width": 2}),
    ("WideResNet16", {"width": 2}),
    ("PreActWideResNet28", {"width": 2, "drop_rate": 0.1}),
    ("ResNet20", {"in_planes": 1}),
    ("ResNet20", {"small_images": False}),
    *((name, {"shortcut": kind}) for name in ("ResNet20", "PreActResNet164") for kind in library.SHORTCUTS),
]


def theirs_with(torch_resnet, name, shortcut=None, **options):
    if shortcut:
        options["shortcut"] = getattr(torch_resnet, shortcut)
    return getattr(torch_resnet, name)(**options)


def ours_with(name, shortcut=None, **options):
    if shortcut:
        options["shortcut"] = getattr(library, shortcut)
    return getattr(library, name)(**options)


def randomise(net):
    torch.manual_seed(0)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(0.2, 0.6)
    return net.eval()


def assert_same_net(ours, theirs, side):
    """Their arrays have the same names in the same order, which optimizers' states go by; each loads the other's."""
    for net in (ours, theirs):
        net.set_head(torch.nn.Linear(net.out_planes, 10))
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert library.count_layers(ours) == library.count_layers(theirs)
    assert library.count_parameters(ours) == library.count_parameters(theirs)
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    data = torch.rand(2, next(ours.parameters()).shape[1], side, side)
    with torch.no_grad():
        expected = theirs(data)
        torch.testing.assert_close(ours.eval()(data), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    ours.train()(data)
    counters = {name: int(tensor) for name, tensor in ours.state_dict().items() if name.endswith("tracked")}
    assert counters and {*counters.values()} == {1}
    theirs.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.endswith(("152", "200", "1001", "1202")) else name
        for name in architecture.CLASSES
        if "_" not in name
    ],
)
def test_every_class_of_torch_resnet_is_here(torch_resnet, name):
    theirs = theirs_with(torch_resnet, name)
    assert_same_net(ours_with(name), theirs, 32 if theirs.out_planes in (64, 256) else 64)


@pytest.mark.parametrize("name, options", VARIANTS, ids=str)
def test_options_of_torch_resnet_are_here(torch_resnet, name, options):
    assert_same_net(ours_with(name, **options), theirs_with(torch_resnet, name, **options), 33)


def test_the_classes_are_all_that_torch_resnet_has(torch_resnet):
    there = {name for name in vars(torch_resnet) if inspect.isclass(getattr(torch_resnet, name))}
    assert there <= {*dir(library)}
    assert {*library.__all__} == {*library.NETS, *library.SHORTCUTS} <= {*dir(library)}
    with pytest.raises(AttributeError, match="no attribute 'ResNet19'"):
        _ = library.ResNet19


def test_blocks_and_shortcuts_made_for_torch_resnet_work_here(torch_resnet):
    from torch_resnet import preact_resnet, resnet

    dimensions = [(1, 8), (1, 8), (2, 16)]
    options = {"shortcut": torch_resnet.ConvolutionShortcut, "width": 2, **SMALL}
    for kind, own, known in (
        ("ResNet", resnet.Bottleneck, "bottleneck"),
        ("PreActResNet", preact_resnet.PreActBlock, "preact_basic"),
    ):
        theirs = getattr(torch_resnet, kind)(dimensions, own, **options)
        assert_same_net(getattr(library, kind)(dimensions, own, **options), theirs, 16)
        net = getattr(library, kind)(dimensions, known, **options)
        assert [*net.state_dict()] == [name for name in theirs.state_dict() if not name.startswith("head")]


def test_a_net_gets_a_head():
    net = library.PreActResNet18()
    data = torch.rand(2, 3, 64, 64)
    assert net(data).shape == (2, 512) == (2, net.out_planes)
    net.set_head(torch.nn.Linear(net.out_planes, 7))
    assert net(data).shape == (2, 7)
    features = net.eval().features(data)
    assert features.shape == (2, 512, 2, 2) and features.min() >= 0
    torch.testing.assert_close(net.classify(features), net(data))
    net.set_head(None)
    assert net(data).shape == (2, 512)
    with pytest.raises(UserError, match=r"a head is a torch\.nn\.Module or None, not int"):
        net.set_head(7)


@pytest.mark.parametrize("name", architecture.MODELS)
def test_every_named_net_is_as_large_as_in_gluon(name):
    pytest.importorskip("mxnet")
    import mxnet_resnet

    if "1001" in name or "1202" in name:
        name = name.replace("1001", "164").replace("1202", "110")
    with torch.device("meta"):
        ours = library.build(name, classes=10)
    theirs = mxnet_resnet.build(name, classes=10)
    assert library.count_layers(ours) == mxnet_resnet.count_layers(theirs)
    assert library.count_parameters(ours) == mxnet_resnet.count_parameters(theirs)
    assert {key: tuple(tensor.shape) for key, tensor in nets.name_tensors(ours).items()} == {
        key: parameter.shape for key, parameter in theirs.collect_params().items()
    }


def test_nets_are_named_as_on_mxnet():
    assert library.list_models() == sorted(architecture.MODELS)
    assert library.build("wide_resnet28_2", classes=10)(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert isinstance(library.PreActResNet20(), library.PreActResNet20)
    assert "layers.0.0.shortcut.conv.weight" in library.build("resnet20_v2").state_dict()
    assert not [key for key in library.build("resnet20_v2", shortcut="A").state_dict() if "shortcut" in key]
    with pytest.raises(UserError, match="there is no network 'resnet19'"):
        library.build("resnet19")


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("ResNet18", {"width": 0}, "width 0 is not a whole number from 1 on"),
        ("ResNet18", {"classes": 0}, "classes 0 is not a whole number from 1 on"),
        ("ResNet20", {"drop_rate": 1}, r"drop rate 1 is not in \[0, 1\)"),
        ("ResNet50", {"drop_rate": 0.1}, "bottleneck units have no dropout"),
        ("ResNet20", {"shortcut": "D"}, "there is no shortcut 'D': it is one of A, B, C"),
        ("ResNet20", {"block": "squeezd"}, "there is no block 'squeezd': the blocks are basic, bottleneck"),
        ("ResNet", {"dimensions": [(2, 8), (1, 8)]}, r"dimensions .* are not \(1, channels\)"),
        ("ResNet", {"dimensions": [(1, 8), (1, 4)], "shortcut": "A"}, "cannot have fewer channels out"),
        ("ResNet20", {"data_norm": "half"}, "there is no data_norm 'half'"),
    ],
)
def test_what_means_nothing_is_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        getattr(library, name)(**options)


def test_convolutions_begin_as_he_et_al_say_and_the_classifier_as_pytorchs():
    torch.manual_seed(0)
    net = library.build("gluon_resnet50_v1", classes=100)
    for weight in (net.init_layer[0].weight, net.units[5].conv2.weight, net.units[-1].conv1.weight):
        fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
        assert abs(float(weight.detach().std()) * (fan_out / 2) ** 0.5 - 1) < 0.05
    assert not net.units[0].conv1.bias.any()
    bound = net.out_planes**-0.5
    for tensor in (net.head.weight, net.head.bias):
        assert 0.9 * bound < float(tensor.detach().abs().max()) <= bound
    ones = library.ResNet20(initializer=torch.nn.init.ones_)
    assert (ones.units[0].conv1.weight == 1).all()
    drawn = library.ResNet20(initializer=None).units[8].conv2.weight  # as PyTorch draws it: no further out than this
    assert float(drawn.detach().abs().max()) <= (64 * 9) ** -0.5


def test_nets_need_no_mxnet():
    done = subprocess.run([sys.executable, "-c", WITHOUT_MXNET], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
