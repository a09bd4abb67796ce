"""Residual units by name: variants of them, nets of variants, and plans that name none there is."""

import json
import re
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, nn

import mxnet_resnet
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import blocks, models, nets, registry, symbols
from mxnet_resnet.plans import architecture
from mxnet_resnet.settings.run import parse
from mxnet_resnet.use import proof, reading, writing
from tests.helpers.conversions import ours
from tests.helpers.family import images, randomise, relative
from tests.helpers.runs import begin, train_arguments

DIMENSIONS = ((1, 8), (2, 8), (1, 16))
NETS = {  # a net of each block
    "basic": "wide_resnet16_8",
    "bottleneck": "resnet164",
    "preact_basic": "preact_wide_resnet16_8",
    "preact_bottleneck": "preact_resnet164",
}


class SqueezeExcite(HybridBlock):
    def __init__(self, channels, prefix):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D(prefix="pool_")
            self.squeeze = nn.Conv2D(channels // 4, 1, in_channels=channels, prefix="squeeze_")
            self.excite = nn.Conv2D(channels, 1, in_channels=channels // 4, prefix="excite_")

    def hybrid_forward(self, F, x):
        return F.broadcast_mul(x, F.sigmoid(self.excite(F.relu(self.squeeze(self.pool(x))))))


@pytest.fixture
def squeezed(monkeypatch):
    """Register the squeeze-and-excitation variant of a block as "squeezed", and name a net of it "se_net"."""
    monkeypatch.setattr(registry, "BLOCKS", {**registry.BLOCKS})

    def add(block, **plan):
        @registry.register("squeezed")
        class Squeezed(registry.find_block(block)):
            def make_refinement(self, channels):
                return SqueezeExcite(channels, prefix="se_")

        named = replace(architecture.find(NETS[block]), block="squeezed", dimensions=DIMENSIONS, width=1, **plan)
        monkeypatch.setitem(architecture.MODELS, "se_net", named)
        return Squeezed

    return add


def first_unit(net):
    return next(child for child in net.features if isinstance(child, nn.HybridSequential))[0]


def values(net):
    return {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}


@pytest.mark.parametrize("name, block", [(name, block) for block, name in NETS.items()])
def test_a_plan_without_a_block_has_the_one_that_its_other_fields_tell(name, block):
    plan = architecture.find(name)
    assert (plan.block, plan.block_name) == (None, block)
    assert type(first_unit(mxnet_resnet.build(name))) is registry.BLOCKS[block]


@pytest.mark.parametrize("block", NETS)
def test_a_net_of_a_variant_is_found_by_its_name_and_trains(squeezed, block):
    kind = squeezed(block)
    assert "se_net" in mxnet_resnet.list_models()
    mx.random.seed(0)
    net = mxnet_resnet.build("se_net", classes=3)
    assert isinstance(first_unit(net), kind)
    net.initialize()
    net.hybridize()
    before = values(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(mx.nd.array(images(16, 4))), mx.nd.array([0, 1, 2, 0]))
    loss.backward()
    trainer.step(4)
    after = values(net)
    squeezes = [name for name in before if name.endswith("_se_squeeze_weight")]
    assert squeezes == [f"stage{unit}_se_squeeze_weight" for unit in ("1_unit1", "1_unit2", "2_unit1")]
    assert not [name for name in before if np.array_equal(before[name], after[name])]


@pytest.mark.parametrize("block", NETS)
def test_the_residual_of_a_variant_is_refined_just_before_the_addition(squeezed, block):
    squeezed(block)
    graph = symbols.softmax(mxnet_resnet.build("se_net", classes=3)).get_internals()
    residual, shortcut = (node.name for node in graph["_plus0_output"].get_children())
    assert residual.startswith("stage1_unit1_se_")
    assert "_se_" not in shortcut
    last = {"basic": "bn2", "bottleneck": "bn3", "preact_basic": "conv2", "preact_bottleneck": "conv3"}[block]
    refined = graph["_plus0_output"].get_children()[0].get_children()[0]
    assert refined.name == f"stage1_unit1_{last}"


@pytest.mark.parametrize("block", NETS)
def test_a_variant_begins_as_its_shortcut(squeezed, block):
    squeezed(block)
    net = mxnet_resnet.build("se_net", zero_init_residual=True)
    net.initialize()
    stage = next(child for child in net.features if isinstance(child, nn.HybridSequential))
    data = mx.nd.array(np.random.RandomState(0).normal(size=(2, stage[1].out_planes, 6, 6)))
    expected = data if "preact" in block else mx.nd.relu(data)
    np.testing.assert_array_equal(stage[1](data).asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("block", ["basic", "preact_basic"])
def test_a_variant_keeps_dropout(squeezed, block):
    squeezed(block)
    dropped = mxnet_resnet.build("se_net", classes=3)
    assert architecture.find("se_net").drop_rate == first_unit(dropped).dropout._rate == 0.3
    graph = symbols.softmax(dropped).get_internals()
    assert graph["stage1_unit1_conv2_output"].get_children()[0].name == "stage1_unit1_dropout"

    data = mx.nd.array(images(16))
    for net, least, most in ((dropped, 1e-3, np.inf), (mxnet_resnet.build("se_net", classes=3, drop_rate=0), 0, 1e-6)):
        randomise(net, 16)
        with autograd.train_mode():
            assert least <= relative(net(data).asnumpy(), net(data).asnumpy()) <= most


def test_a_variant_of_a_bottleneck_has_its_stride_and_biases_where_the_plan_says(squeezed):
    squeezed("bottleneck", stride_first=True, bias=True)
    net = mxnet_resnet.build("se_net")
    unit = next(child for child in net.features if isinstance(child, nn.HybridSequential) and len(child) == 1)[0]
    strides = [layer._kwargs["stride"] for layer in (unit.conv1, unit.conv2, unit.conv3)]
    assert strides == [(2, 2), (1, 1), (1, 1)]
    assert [layer.bias is not None for layer in (unit.conv1, unit.conv2, unit.conv3)] == [True, False, True]


def test_a_net_takes_a_block_by_its_name():
    net = models.PreActResNet(DIMENSIONS, "preact_bottleneck")
    assert type(first_unit(net)) is blocks.PreActBottleneck
    assert net.out_planes == 64


@pytest.mark.parametrize("use", ["plan", "keyword"])
def test_a_block_there_is_not_is_refused_in_one_sentence(monkeypatch, use):
    monkeypatch.setitem(architecture.MODELS, "se_net", replace(architecture.find("resnet20"), block="squeezd"))
    with pytest.raises(UserError) as refused:
        mxnet_resnet.build("se_net") if use == "plan" else mxnet_resnet.ResNet20(block="squeezd")
    known = "basic, bottleneck, preact_basic, preact_bottleneck"
    assert str(refused.value) == f"there is no block 'squeezd': the blocks are {known}"


def test_a_name_is_of_one_block(monkeypatch):
    monkeypatch.setattr(registry, "BLOCKS", {**registry.BLOCKS})
    with pytest.raises(UserError, match=r"the block 'basic' is mxnet_resnet\..*\.BasicBlock: choose another name"):
        registry.register("basic")(SqueezeExcite)
    assert registry.BLOCKS["basic"] is blocks.BasicBlock
    again = type("BasicBlock", (blocks.BasicBlock,), {"__module__": blocks.__name__, "__qualname__": "BasicBlock"})
    assert registry.register("basic")(again) is registry.BLOCKS["basic"] is again  # a cell of a notebook, run twice


def test_notes_of_plans_from_before_they_named_blocks_are_read(tmp_path):
    source = ours(replace(architecture.find("preact_resnet20"), dimensions=DIMENSIONS, stem_relu=False))
    writing.write_gluon(tmp_path / "net.params", source)
    note = tmp_path / "net-architecture.json"
    fields = json.loads(note.read_text())
    assert fields.pop("block") is None
    note.write_text(json.dumps(fields))
    assert reading.read_known(str(tmp_path / "net.params")).plan == source.plan

    note.write_text(json.dumps({**fields, "block": "squeezed"}))
    with pytest.raises(UserError, match="there is no block 'squeezed': the blocks are basic, "):
        nets.build_gluon(reading.read_known(str(tmp_path / "net.params")))


def test_a_variant_is_no_net_of_pytorchs(squeezed, tmp_path):
    squeezed("basic")
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="ResNet cannot be this net, which has units of the block squeezed"):
        writing.write_torch(tmp_path / "net.pth", ours(architecture.find("se_net")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("block", NETS)
def test_a_variant_is_written_described_and_read_again(squeezed, tmp_path, block):
    squeezed(block)
    source = ours(architecture.find("se_net"))
    net = mxnet_resnet.build("se_net", classes=10)
    layers, rest = re.split(" layers| and ", proof.describe(source)[-1].strip(), maxsplit=1)
    projections = re.search(r"(\d+) projection", rest)
    assert int(layers) + int(projections[1] if projections else 0) == models.count_layers(net)
    assert rest.endswith(f", {models.count_parameters(net):,} parameters")
    writing.write_module(str(tmp_path / "net"), source)
    found = reading.read_known(str(tmp_path / "net"), given=reading.Given(plan=source.plan))
    assert found.plan.block == "squeezed" and found.arrays.keys() == source.arrays.keys()
    data = images(16)
    np.testing.assert_array_equal(found.scores(data), nets.compute_scores(nets.adopt(source), data))
    with pytest.raises(UserError, match="fits no family of ResNets known here"):
        reading.read_known(str(tmp_path / "net"))


def test_a_law_that_mxnet_alone_knows_is_drawn_by_it(squeezed, monkeypatch, digits, tmp_path):
    kind = squeezed("basic", he_init=False)
    make_refinement = kind.make_refinement

    def make_orthogonal(unit, channels):
        refinement = make_refinement(unit, channels)
        refinement.squeeze.weight.init = mx.init.Orthogonal(scale=1)
        return refinement

    monkeypatch.setattr(kind, "make_refinement", make_orthogonal)
    params = begin(parse(train_arguments(digits, tmp_path, "--network", "se_net"))).snapshot().params
    weight = params["stage2_unit1_se_squeeze_weight"]
    rows = weight.reshape(len(weight), -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-5)
    assert params["stage2_unit1_conv2_weight"].std() > 0.01


def test_every_class_of_a_named_net_is_listed_and_made_once():
    assert {*architecture.CLASSES, "ResNet", "build"} <= set(dir(models))
    assert models.PreActResNet18 is mxnet_resnet.PreActResNet18
    assert isinstance(mxnet_resnet.PreActResNet20(), models.PreActResNet20)
    assert models.WideResNet16.__module__ == models.__name__
    with pytest.raises(AttributeError, match="has no attribute 'ResNet19'"):
        _ = models.ResNet19
