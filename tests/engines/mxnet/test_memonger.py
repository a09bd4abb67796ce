import re

import mxnet as mx
import numpy as np
import pytest

import mxnet_resnet
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.engines.mxnet.memory import memonger, mirrorgraph
from mxnet_resnet.plans import architecture
from symbol_resnet import resnet

NETS = {
    "preact_resnet20": {},
    "resnet20": {"shortcut": "A"},
    "preact_wide_resnet16_8": {"width": 1, "drop_rate": 0.3},
    "wide_resnet16_8": {"width": 1, "drop_rate": 0.3},
    "resnet18": {"small_images": True, "shortcut": "convolution"},
    "gluon_resnet18_v2": {},
}


def shapes(batch, side):
    return {"data": (batch, 3, side, side), "softmax_label": (batch,)}


def published(depth, stem):
    """The published net of this depth, 10 classes."""
    return symbols.softmax(models.from_architecture(architecture.symbolic_v2(depth, stem), 10))


def step(symbol, sizes):
    """Planned MB, and gradients and running statistics after a step from seeded parameters."""
    with memonger.packing():
        executor = symbol.simple_bind(mx.cpu(), **sizes)
    random = np.random.RandomState(0)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        spread = 0.1 if name.endswith("weight") else 0.01
        array[:] = random.normal(float(name.endswith(("gamma", "var"))), spread, array.shape)
    executor.arg_dict["data"][:] = random.uniform(0, 255, sizes["data"])
    executor.arg_dict["softmax_label"][:] = np.arange(sizes["data"][0]) % 10
    mx.random.seed(0)
    executor.forward(is_train=True)
    executor.backward()
    arrays = {**executor.grad_dict, **executor.aux_dict}
    megabytes = memonger.planned_megabytes(executor)
    return megabytes, {name: array.asnumpy() for name, array in arrays.items() if name not in sizes}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


QUICK = ("resnet20", "preact_wide_resnet16_8")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*NETS, "gluon_resnet50_v1")],
)
def test_gradients_and_statistics_stay_the_same(name):
    symbol = symbols.softmax(mxnet_resnet.build(name, classes=10, **NETS.get(name, {})))
    sizes = shapes(4, 64) if "gluon" in name else shapes(8, 32)
    before, expected = step(symbol, sizes)
    plan = memonger.plan(symbol, sizes)
    found = plan.apply(symbol)
    megabytes, arrays = step(found, sizes)
    assert_same(arrays, expected)
    assert (megabytes, before) == (plan.megabytes, plan.megabytes_before)
    assert megabytes < 0.65 * before
    assert 0 < plan.extra_time <= 33
    for listing in ("list_arguments", "list_auxiliary_states", "list_outputs"):
        assert getattr(found, listing)() == getattr(symbol, listing)()


def test_a_plan_within_a_budget_is_faster_and_changes_no_gradient():
    symbol, sizes = published(20, "cifar"), shapes(32, 32)
    before, expected = step(symbol, sizes)
    least = memonger.plan(symbol, sizes)
    plan = memonger.plan(symbol, sizes, 30)
    assert least.megabytes < plan.megabytes <= 30 < before
    assert 0 < plan.extra_time < least.extra_time
    megabytes, arrays = step(plan.apply(symbol), sizes)
    assert_same(arrays, expected)
    assert megabytes == plan.megabytes


def test_a_large_budget_needs_no_plan():
    symbol = published(20, "cifar")
    plan = memonger.plan(symbol, shapes(8, 32), 1000)
    assert plan.megabytes == plan.megabytes_before
    assert plan.extra_time == 0
    assert plan.apply(symbol).tojson() == symbol.tojson()


def test_a_budget_below_the_least_is_told():
    with pytest.raises(UserError, match=r"within 3 MB: the least found is \d+ MB") as told:
        memonger.plan(published(20, "cifar"), shapes(32, 32), 3)
    least = int(str(told.value).split()[-2])
    assert memonger.plan(published(20, "cifar"), shapes(32, 32), least).megabytes == least


def test_the_same_net_and_batch_give_the_same_plan():
    one, other = (memonger.plan(published(20, "cifar"), shapes(16, 32)) for _ in range(2))
    assert one == other
    assert one.apply(published(20, "cifar")).tojson() == other.apply(published(20, "cifar")).tojson()


def test_the_log_line():
    line = str(memonger.plan(published(20, "cifar"), shapes(128, 32)))
    assert re.fullmatch(
        r"Planned activation memory: \d+ MB a device, \d+% of 199 MB; expected extra time: \d+% a step", line
    )


def test_a_graph_of_bfloat16_keeps_its_casts():
    """Names and operators of a lowered graph are not those of the nets."""
    bfloat16 = np.dtype([("bfloat16", np.uint16)])  # MXNet's own
    data = mx.sym.amp_cast(mx.sym.var("data"), dtype=bfloat16)
    for number in range(6):
        weight = mx.sym.amp_cast(mx.sym.var(f"weight{number}"), dtype=bfloat16)
        product = mx.sym.Convolution(data, weight, num_filter=16, kernel=(3, 3), pad=(1, 1), no_bias=True)
        normal = mx.sym.BatchNorm(mx.sym.amp_cast(product, dtype="float32"))
        data = mx.sym.amp_cast(mx.sym.relu(normal), dtype=bfloat16) + (data if number else 0)
    scores = mx.sym.FullyConnected(mx.sym.amp_cast(data, dtype="float32"), num_hidden=10)
    symbol, sizes = mx.sym.SoftmaxOutput(scores, name="softmax"), shapes(16, 32)
    before, expected = step(symbol, sizes)
    plan = memonger.plan(symbol, sizes)
    megabytes, arrays = step(plan.apply(symbol), sizes)
    assert megabytes == plan.megabytes < before
    assert_same(arrays, expected)


def test_two_steps_of_a_marked_batch_norm_on_cudnn_make_one():
    symbol = published(20, "cifar")
    plan = memonger.plan(symbol, shapes(8, 32))
    momenta = {
        name: attr["momentum"]
        for name, attr in plan.apply(symbol, cudnn=True).attr_dict().items()
        if "momentum" in attr
    }
    marks = plan.apply(symbol).attr_dict()
    marked = {name for name in momenta if marks[name].get(mirrorgraph.MARK) == "True"}
    assert len(marked) > 10
    for name, momentum in momenta.items():
        assert float(momentum) ** (2 if name in marked else 1) == pytest.approx(0.9)


def test_symbol_resnet_plans_for_its_nominal_batch():
    arguments = ([2, 2, 2], 3, [16, 16, 32, 64], 10, "cifar10", False)
    with memonger.packing():
        plain, marked = (
            memonger.bound_megabytes(resnet(*arguments, memonger=given), shapes(128, 32)) for given in (False, True)
        )
    assert marked < 0.5 * plain


def test_other_tools_load_a_marked_graph(tmp_path):
    symbol, sizes = published(20, "cifar"), shapes(4, 32)
    marked = memonger.plan(symbol, sizes).apply(symbol)
    marked.save(str(tmp_path / "marked-symbol.json"), remove_amp_cast=False)
    loaded = mx.sym.load(str(tmp_path / "marked-symbol.json"))
    (_, expected), (_, found) = step(symbol, sizes), step(loaded, sizes)
    assert_same(found, expected)


def test_an_unknown_input_is_told():
    with pytest.raises(UserError, match="no input images"):
        memonger.plan(published(20, "cifar"), {"images": (1, 3, 32, 32)})


# Planned MB of the MXNet ResNet-v2 repository with its mirror plan, measured with this MXNet.
ORIGINAL = [(50, "imagenet", 32, 1219), (152, "imagenet", 32, 1636), (200, "imagenet", 32, 1673)]
ORIGINAL += [(164, "cifar", 128, 830), (1001, "cifar", 64, 863)]


@pytest.mark.slow
@pytest.mark.parametrize("depth, stem, batch, original", ORIGINAL)
def test_plans_need_less_than_the_original(depth, stem, batch, original):
    plan = memonger.plan(published(depth, stem), shapes(batch, 224 if stem == "imagenet" else 32))
    assert plan.megabytes <= 0.85 * original
    assert plan.extra_time <= 33
