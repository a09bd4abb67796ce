"""What proofs pass and what they do not, and exports of graphs as other people make them."""

from dataclasses import replace
from functools import partial

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import nets
from mxnet_resnet.engines.mxnet.graphs import deployment
from mxnet_resnet.plans import architecture
from mxnet_resnet.use import export as exporting
from mxnet_resnet.use import proof, reading
from mxnet_resnet.use.proof import NotProven
from tests.helpers.conversions import ours
from tests.helpers.graphs import dense, features, save

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def net():
    plan = replace(architecture.find("preact_resnet20"), dimensions=((1, 8), (1, 8), (1, 16)), data_norm="shift")
    return deployment.deploy(replace(ours(plan), image_shape=(3, 32, 32)))


def scaled(net, by, added=0.0):
    """``net`` with its scores multiplied, and a number added to those of its first class."""
    bias = net.params["fc1_bias"] * by
    bias[0] += added
    return replace(
        net, params={**net.params, "fc1_weight": net.params["fc1_weight"] * np.float32(by), "fc1_bias": bias}
    )


def with_weight_changed(net, name="stage1_unit1_conv1_weight", factor=1.3):
    changed = net.params[name].copy()
    changed[0] *= factor
    return replace(net, params={**net.params, name: changed})


def prove(net, other):
    expected, found = (partial(nets.compute_scores, each) for each in (net, other))
    return proof.prove(net, expected, found, lambda batch: proof.PROBABILITIES["softmax"](found(batch)))


@pytest.mark.parametrize("factor, added", [(1, 0), (1e4, 0), (1, 1e2)], ids=["plain", "saturated", "one class always"])
def test_a_weight_that_is_wrong_shows_whatever_the_softmax_makes_of_it(net, factor, added):
    source = scaled(net, factor, added)
    assert len(prove(source, source)) in (2, 3)
    with pytest.raises(NotProven, match="largest difference"):
        prove(source, with_weight_changed(source))


def test_scores_that_hardly_differ_are_told(net):
    constant = scaled(net, 0, 5.0)
    sentences = prove(constant, with_weight_changed(constant))
    assert sentences[-1].startswith("the scores hardly differ between these images, by 0.00e+00")
    assert "hardly differ" not in " ".join(prove(net, net))


def test_scores_that_are_no_numbers_prove_nothing(net):
    broken = with_weight_changed(net, "fc1_weight", np.nan)
    with pytest.raises(NotProven):
        prove(broken, broken)


def test_probabilities_that_are_not_of_the_scores_are_told(net):
    scores = partial(nets.compute_scores, net)
    with pytest.raises(NotProven, match="not the softmax of its score"):
        proof.prove(net, scores, scores, lambda batch: proof.PROBABILITIES["sigmoid"](scores(batch)))


def test_images_differ_from_each_other(net):
    for images in proof.make_images(net).values():
        assert len({image.tobytes() for image in images}) == len(images) >= 4
        assert images.min() >= 0 and images.max() <= 255


@pytest.mark.parametrize("most, needed", [(2, 137), (1, 276), (10, 26), (0, float("inf"))])
def test_as_many_images_are_asked_for_as_tell_the_allowed_loss_from_chance(most, needed):
    assert proof.count_images_needed(most) == needed
    if most:
        same = np.zeros(needed, bool)
        assert proof.measure_rise(same, same)[2] <= most < proof.measure_rise(same[:-1], same[:-1])[2]
        exporting.check_number(needed, most)
        with pytest.raises(UserError, match=f"take {needed}"):
            exporting.check_number(needed - 1, most)
    else:
        with pytest.raises(UserError, match="a larger --most"):
            exporting.check_number(10**9, most)


def test_the_interval_is_as_in_the_article():
    """By hand: 20 of 200 are wrong only after, 4 only before."""
    before, after = np.arange(200) < 4, (np.arange(200) >= 4) & (np.arange(200) < 24)
    rise, low, high = proof.measure_rise(before, after)
    assert rise == 8
    middle, sides = 16 / 202, np.sqrt((26 / 202 - (16 / 202) ** 2) / 202) * 1.96
    assert (low, high) == pytest.approx((100 * (middle - sides), 100 * (middle + sides)))


def test_a_rise_that_is_not_ruled_out_is_told():
    before, after = np.arange(200) < 4, np.arange(200) < 6
    assert "is not ruled out" in exporting.judge_rise(before, after, 2)[1]
    assert "is not ruled out" not in exporting.judge_rise(before, after, 5)[1]
    with pytest.raises(NotProven, match=r"a rise of 1\.00%"):
        exporting.judge_rise(before, after, 0.5)


def test_scores_that_are_off_by_more_than_int8_rounds_are_told():
    scores = np.random.RandomState(0).normal(size=(1000, 10))
    rounded = scores + 0.05 * np.random.RandomState(1).normal(size=scores.shape)
    assert "off by 5.1% of their deviation" in proof.describe_rounding(scores, rounded)
    told = proof.describe_rounding(scores, 1.3 * scores)
    assert "the same class on 100.00% of them" in told and "more than the 3 to 8%" in told


def prelu(seen):
    return mx.sym.LeakyReLU(seen, act_type="prelu", name="prelu")


def var_of(shape):
    """A parameter whose shape, once it is drawn, only the checkpoint tells."""
    return mx.sym.var("mean", shape=shape)


OTHERS = {
    "a dense layer of a map": lambda: mx.sym.FullyConnected(features(pool=False), num_hidden=5, name="fc"),
    "a dense layer in other words": lambda: mx.sym.FullyConnected(
        features(pool=False), num_hidden=5, name="fc", flatten=1, no_bias=1
    ),
    "PReLU": lambda: dense(5, of=mx.sym.Pooling(prelu(features(pool=False)), global_pool=True, pool_type="avg")),
    "PReLU of flat features": lambda: mx.sym.FullyConnected(prelu(dense(6, "hidden")), num_hidden=5, name="fc"),
    "a mean over pixels": lambda: dense(5, of=mx.sym.mean(features(pool=False), axis=(2, 3))),
    "a sigmoid": lambda: mx.sym.sigmoid(dense(5)),
    "an embedding of a face": lambda: mx.sym.BatchNorm(dense(5), name="embedding"),
    "a unit vector": lambda: mx.sym.L2Normalization(dense(5)),
    "a mean that no shape is noted of": lambda: dense(5, of=mx.sym.broadcast_sub(features(), var_of((1, 4, 1, 1)))),
    "several outputs": lambda: mx.sym.Group([mx.sym.softmax(dense(5), name="s"), mx.sym.BlockGrad(mx.sym.var("data"))]),
    "images scaled": lambda: mx.sym.FullyConnected((mx.sym.var("data") - 127.5) * 0.0078125, num_hidden=5, name="fc"),
}


def forget_shapes(path):
    """Take the notes of shapes out of a graph."""
    path.write_text(path.read_text().replace('"__shape__"', '"__note__"'))


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_graphs_of_others_go_to_onnx_and_folded(tmp_path, make):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    save(tmp_path, make(), SHAPE)
    forget_shapes(tmp_path / "net-symbol.json")
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE)))
    names = [str(label) for label in range(5)] if net.activation else []
    told = exporting.export_onnx(tmp_path / "net.onnx", net, names)
    assert sum("of the scores' spread" in sentence for sentence in told) == 2
    assert any("as it is" in sentence for sentence in told) == (net.activation is None)
    exporting.export_folded(str(tmp_path / "folded"), net)
    again = nets.adopt(reading.read_checkpoint(str(tmp_path / "folded"), 0, reading.Given(SHAPE)))
    assert (again.activation, again.classes) == (net.activation, net.classes)


def test_what_mxnet_cannot_compute_in_int8_is_a_sentence(tmp_path, digits):
    """As the gates of MobileNetV3."""
    seen = features(pool=False)
    gate = mx.sym.clip(mx.sym.Convolution(seen, kernel=(1, 1), num_filter=4, name="gate") + 3, 0, 6) / 6
    again = mx.sym.Convolution(seen * gate, kernel=(3, 3), num_filter=4, name="again")
    symbol = dense(of=mx.sym.Pooling(again, global_pool=True, pool_type="avg"))
    save(tmp_path, symbol, SHAPE)
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE)))
    calibration = exporting.Calibration(digits / "digits_train.rec", images=150)
    with pytest.raises(UserError, match="cannot be put into int8: MXNet cannot compute the graph: Check failed"):
        exporting.export_int8(str(tmp_path / "int8"), net, calibration)
    assert not (tmp_path / "int8-symbol.json").exists()


def test_what_an_output_hides_is_told(tmp_path):
    save(tmp_path, mx.sym.softmax(1e4 * dense(5)) * 100, SHAPE)
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE)))
    assert "(a softmax), which can hide differences" in exporting.export_folded(str(tmp_path / "folded"), net)[-1]


def test_what_the_exporter_cannot_write_is_a_sentence(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    strange = mx.sym.rcbrt(features(pool=False) + 1)
    save(tmp_path, dense(5, of=mx.sym.Pooling(strange, global_pool=True)), SHAPE)
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE)))
    with pytest.raises(UserError, match="MXNet's exporter cannot write"):
        exporting.export_onnx(tmp_path / "net.onnx", net, list("abcde"))
    assert not (tmp_path / "net.onnx").exists()
