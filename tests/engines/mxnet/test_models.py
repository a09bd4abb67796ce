"""The family of nets: sizes, heads, units and symbols, how they begin, and bad input."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

import mxnet_resnet
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import blocks, models, registry, symbols
from mxnet_resnet.plans import architecture
from tests.helpers.family import DEEP, LARGE, SHALLOW, SMALL, WIDE, both, images, randomise, relative

WIDE_LARGE = ["WideResNet50_2", "WideResNet101_2"]


@pytest.mark.parametrize(
    "name, options, parameters, layers",
    [
        ("resnet20", {"shortcut": "A"}, 269_722, 20),
        ("resnet32", {"shortcut": "A"}, 464_154, 32),
        ("resnet44", {"shortcut": "A"}, 658_586, 44),
        ("resnet56", {"shortcut": "A"}, 853_018, 56),
        ("resnet110", {"shortcut": "A"}, 1_727_962, 110),
        ("resnet1202", {"shortcut": "A"}, 19_421_274, 1202),
        ("preact_resnet164", {}, 1_703_258, 164 + 3),
        ("preact_resnet1001", {}, 10_327_706, 1001 + 3),
        ("preact_wide_resnet28_10", {}, 36_479_194, 28 + 1),
        ("preact_wide_resnet40_4", {}, 8_949_210, 40 + 1),
        ("resnet18", {"classes": 1000}, 11_689_512, 18 + 3),
        ("resnet34", {"classes": 1000}, 21_797_672, 34 + 3),
        ("resnet50", {"classes": 1000}, 25_557_032, 50 + 4),
        ("resnet101", {"classes": 1000}, 44_549_160, 101 + 4),
        ("resnet152", {"classes": 1000}, 60_192_808, 152 + 4),
        ("wide_resnet50_2", {"classes": 1000}, 68_883_240, 50 + 4),
    ],
)
def test_published_sizes(name, options, parameters, layers):
    net = mxnet_resnet.build(name, **{"classes": 10, **options})
    assert mxnet_resnet.count_parameters(net) == parameters
    assert mxnet_resnet.count_layers(net) == layers


def test_layers_of_a_kind_are_counted():
    net = mxnet_resnet.build("preact_resnet20", classes=10)
    assert models.count_layers(net, (nn.Conv2D,)) == 21
    assert models.count_layers(net, (blocks.PreActBlock,)) == 9


class Tiles(mx.init.Initializer):
    """Some random values over and over: drawing all of them would take most of the time of these tests."""

    def _init_weight(self, _, array):
        array[:] = np.resize(np.random.RandomState(0).uniform(-0.05, 0.05, 9973).astype(np.float32), array.shape)


@pytest.mark.parametrize("name", mxnet_resnet.list_models())
def test_every_network_computes_scores_of_an_image(name):
    net = mxnet_resnet.build(name, classes=7, initializer=Tiles())
    net.initialize()
    side = 32 if architecture.find(name).small_images else 64
    scores = net(mx.nd.array(images(side, 1))).asnumpy()
    assert scores.shape == (1, 7)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0


@pytest.mark.parametrize("name", both(LARGE + SMALL + DEEP + WIDE + WIDE_LARGE))
def test_every_class_is_there_and_makes_features(name):
    net = getattr(mxnet_resnet, name)()
    assert isinstance(net, models.PreActResNet if name.startswith("PreAct") else models.ResNet)
    side = 32 if name.removeprefix("PreAct") in SMALL + DEEP + WIDE else 64
    shape = net(mx.sym.var("data")).infer_shape(data=(5, 3, side, side))[1]
    assert shape == [(5, net.out_planes)]


def test_widths_by_keyword_and_by_name_are_the_same_net():
    for net, name in (
        (mxnet_resnet.ResNet50(width=2), "wide_resnet50_2"),
        (mxnet_resnet.PreActWideResNet28(width=3, drop_rate=0.1), "preact_wide_resnet28_3"),
    ):
        named = mxnet_resnet.build(name)
        shapes = {key: parameter.shape for key, parameter in net.collect_params().items()}
        assert shapes == {key: parameter.shape for key, parameter in named.collect_params().items()}


def test_set_head_swaps_heads_of_any_type():
    net = mxnet_resnet.PreActResNet20()
    net.initialize()
    data = mx.nd.array(images(32))
    features = net(data).asnumpy()
    assert features.shape == (2, net.out_planes) == (2, 64)
    dense = nn.Dense(5, in_units=net.out_planes)
    dense.initialize()
    net.set_head(dense)
    np.testing.assert_array_equal(net(data).asnumpy(), dense(mx.nd.array(features)).asnumpy())
    wrapped = nn.HybridSequential()
    wrapped.add(nn.Dropout(0.5), nn.Dense(3, in_units=net.out_planes))
    wrapped.initialize()
    net.set_head(wrapped)
    net.hybridize()
    assert net(data).shape == (2, 3)
    assert sum(name.endswith("weight") and "dense" in name for name in net.collect_params()) == 1
    net.set_head(None)
    np.testing.assert_allclose(net(data).asnumpy(), features, rtol=1e-5, atol=1e-6)


class Squeezed(gluon.HybridBlock):
    """A user's own unit: one convolution, its channels weighted by what they are on average."""

    def __init__(self, in_planes, planes, *, shortcut, stride=1, width=1, drop_rate=0.0, norm=None, prefix=None):
        super().__init__(prefix=prefix)
        self.out_planes = planes * width
        with self.name_scope():
            self.conv = blocks.convolution(self.out_planes, 3, stride, in_planes, "conv_")
            self.norm = norm(self.out_planes, prefix="norm_")
            self.gate = nn.HybridSequential(prefix="gate_")
            with self.gate.name_scope():
                self.gate.add(nn.GlobalAvgPool2D(), blocks.convolution(self.out_planes, 1, 1, self.out_planes, "fc_"))
            self.shortcut = shortcut(in_planes, self.out_planes, stride)

    def hybrid_forward(self, F, x):
        y = F.relu(self.norm(self.conv(x)))
        return self.shortcut(x) + F.broadcast_mul(y, F.sigmoid(self.gate(y)))


def symbol_probabilities(net, data):
    executor = symbols.softmax(net).simple_bind(mx.cpu(), grad_req="null", data=data.shape)
    parameters = {name: parameter.data() for name, parameter in net.collect_params().items()}
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name not in ("data", "softmax_label"):
            array[:] = parameters.pop(name)
    assert not parameters
    return executor.forward(is_train=False, data=mx.nd.array(data))[0].asnumpy()


@pytest.mark.parametrize("kind", [models.ResNet, models.PreActResNet])
def test_a_users_own_block_makes_a_net_and_a_symbol(kind):
    net = kind(SHALLOW, Squeezed, classes=6, shortcut="A", width=2, small_images=True, zero_init_residual=True)
    assert net.out_planes == 48
    net = randomise(net, 16)
    data = images(16)
    expected = mx.nd.softmax(net(mx.nd.array(data))).asnumpy()
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(symbol_probabilities(net, data), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name, options",
    [
        ("resnet20", {"shortcut": "A"}),
        ("preact_resnet20", {"shortcut": "convolution", "width": 3}),
        ("wide_resnet16_2", {}),
        ("preact_wide_resnet16_2", {"shortcut": "C"}),
        ("gluon_resnet50_v1", {}),
        ("gluoncv_cifar_resnet20_v2", {"shortcut": "centered_identity"}),
        ("resnet18", {"small_images": True, "data_norm": "full"}),
    ],
)
def test_a_symbol_computes_what_its_gluon_net_does(name, options):
    net = randomise(mxnet_resnet.build(name, classes=10, **options), 32)
    data = images(32)
    expected = mx.nd.softmax(net(mx.nd.array(data))).asnumpy()
    np.testing.assert_allclose(symbol_probabilities(net, data), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [models.ResNet, models.PreActResNet])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_zero_init_residual_begins_as_the_shortcut(kind, bottleneck):
    block = registry.find_block(("preact_" if kind.preact else "") + ("bottleneck" if bottleneck else "basic"))
    for zero in (False, True):
        net = kind(SHALLOW, block, small_images=True, zero_init_residual=zero)
        net.initialize()
        stage = next(child for child in net.features if isinstance(child, nn.HybridSequential))
        unit = stage[1]
        data = mx.nd.array(np.random.RandomState(0).normal(size=(2, unit.out_planes, 6, 6)))
        expected = data if kind.preact else mx.nd.relu(data)
        assert np.array_equal(unit(data).asnumpy(), expected.asnumpy()) == zero


def test_convolutions_begin_with_the_deviation_of_he():
    net = mxnet_resnet.ResNet18()
    net.initialize()
    for name, fan_out in (
        ("stage2_unit1_conv1_weight", 9 * 128),
        ("stage4_unit1_sc_weight", 512),
        ("conv0_weight", 49 * 64),
    ):
        weight = net.collect_params()[name].data().asnumpy()
        assert abs(weight.std() / (2 / fan_out) ** 0.5 - 1) < 0.05
        assert abs(weight.mean()) < weight.std() * 5 / weight.size**0.5
        assert np.abs(weight).max() > 2.5 * weight.std()


def test_dropout_is_for_training_only():
    net = mxnet_resnet.build("preact_wide_resnet16_1", classes=10, drop_rate=0.5)
    net.initialize()
    data = mx.nd.array(images(32))
    np.testing.assert_array_equal(net(data).asnumpy(), net(data).asnumpy())
    with autograd.train_mode():
        assert relative(net(data).asnumpy(), net(data).asnumpy()) > 1e-2
    plain = mxnet_resnet.build("preact_wide_resnet16_1", classes=10, drop_rate=0)
    plain.initialize()
    with autograd.train_mode():
        assert relative(plain(data).asnumpy(), plain(data).asnumpy()) < 1e-5


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("preact_resnet51", {}, "no network 'preact_resnet51': the nearest are .*preact_resnet50"),
        ("wide_resnet28_0", {}, "no network 'wide_resnet28_0': the nearest are .*wide_resnet28_10"),
        ("resnet-50", {}, "no network 'resnet-50': the nearest are resnet50, "),
        ("resnet9999", {}, r"no network 'resnet9999' \(.*--list-networks has those that are\)$"),
        ("vgg16", {}, r"no network 'vgg16' \(.*--list-networks has those that are\)$"),
        ("", {}, r"no network '' \(.*--list-networks has those that are\)$"),
        ("resnet20", {"width": 0}, "width 0 is not a whole number from 1 on"),
        ("resnet20", {"width": 1.5}, "width 1.5 is not a whole number"),
        ("resnet20", {"drop_rate": 1}, r"drop rate 1 is not in \[0, 1\)"),
        ("resnet20", {"drop_rate": -0.1}, r"drop rate -0.1 is not in \[0, 1\)"),
        ("resnet20", {"classes": 0}, "classes 0 is not a whole number from 1 on"),
        ("resnet20", {"shortcut": "D"}, "no shortcut 'D': it is one of A, B, C, identity"),
        ("resnet50", {"drop_rate": 0.3}, "bottleneck units have no dropout"),
        ("preact_resnet164", {"drop_rate": 0.3}, "bottleneck units have no dropout"),
    ],
)
def test_bad_input_of_build_is_told(name, options, message):
    with pytest.raises(UserError, match=message):
        mxnet_resnet.build(name, **options)


@pytest.mark.parametrize("kind", [models.ResNet, models.PreActResNet])
def test_bad_input_of_the_base_classes_is_told(kind):
    with pytest.raises(UserError, match=r"fewer channels out \(8\) than in \(16\)"):
        kind([(1, 16), (1, 8)], shortcut="A")
    for dimensions in ([], [(1, 16)], [(1, 16), (0, 16)], [(1, 16), (1, 0)]):
        with pytest.raises(UserError, match=r"then .units, planes. of each stage|not a whole number"):
            kind(dimensions)
