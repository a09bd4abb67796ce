"""Graphs of other people, by what they end in: probabilities are those that MXNet computes of the whole graph."""

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import nets, symbols
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.mxnet.predictor import Predictor
from mxnet_resnet.engines.net import require_classes
from mxnet_resnet.use import reading
from mxnet_resnet.use.classifier import Classifier
from tests.helpers import REPOSITORY
from tests.helpers.graphs import dense, features, save

SHAPE = (3, 16, 16)
CASES = REPOSITORY.parent / "shared/cases/07-graph-of-several-outputs"
PROBABILITIES = {
    "softmax": lambda: mx.sym.softmax(dense()),
    "SoftmaxOutput": lambda: mx.sym.SoftmaxOutput(dense(), name="softmax"),
    "a copy of a softmax": lambda: mx.sym.identity(mx.sym.softmax(dense())),
    "a softmax of another type and shape": lambda: mx.sym.Reshape(
        mx.sym.cast(mx.sym.BlockGrad(mx.sym.SoftmaxActivation(dense())), "float32"), shape=(0, -1)
    ),
    "a temperature": lambda: mx.sym.softmax(5 * dense(), temperature=4.0),
    "exp of a log_softmax": lambda: mx.sym.exp(mx.sym.log_softmax(dense())),
    "kept off 0 and 1": lambda: mx.sym.clip(mx.sym.softmax(dense()), 1e-7, 1 - 1e-7),
    "sigmoid": lambda: mx.sym.sigmoid(dense()),
    "a sigmoid activation": lambda: mx.sym.BlockGrad(mx.sym.Activation(dense(), act_type="sigmoid")),
    "LogisticRegressionOutput": lambda: mx.sym.LogisticRegressionOutput(dense(), name="regression"),
}
LOGARITHMS = {
    "log_softmax": lambda: mx.sym.log_softmax(dense()),
    "log_softmax of a temperature": lambda: mx.sym.log_softmax(5 * dense(), temperature=4.0),
    "log of a softmax": lambda: mx.sym.log(mx.sym.identity(mx.sym.softmax(dense()))),
}
NO_SCORES = {
    "a softmax over the images": (lambda: mx.sym.softmax(dense(), axis=0), "what softmax gives"),
    "features": (lambda: mx.sym.Flatten(features()), "what Pooling gives"),
    "a face embedding": (lambda: mx.sym.BatchNorm(dense(8), name="bn", fix_gamma=True), "what BatchNorm gives"),
    "a unit vector": (lambda: mx.sym.L2Normalization(dense(8)), "what L2Normalization gives"),
    "kept far off 0": (lambda: mx.sym.clip(mx.sym.softmax(dense()), 0.01, 1), "what clip gives"),
    "percent": (lambda: mx.sym.softmax(dense()) * 100, "what _mul_scalar gives"),
    "a mean of two softmaxes": (lambda: (mx.sym.softmax(of := dense()) + mx.sym.softmax(of)) / 2, "_div_scalar"),
    "a loss": (lambda: mx.sym.MakeLoss(mx.sym.mean(dense())), "what MakeLoss gives"),
    "a regression": (lambda: mx.sym.LinearRegressionOutput(dense(1), name="age"), "what LinearRegressionOutput"),
    "one number": (lambda: dense(1), "has shape (N, 1)"),
    "a map": (lambda: mx.sym.SoftmaxOutput(features(pool=False), multi_output=True, name="softmax"), "shape (N, 4, "),
}
TOLD = {
    "features and a softmax": lambda seen, scores, answer: [mx.sym.BlockGrad(seen), answer],
    "a softmax and a loss": lambda seen, scores, answer: [answer, mx.sym.MakeLoss(mx.sym.mean(scores))],
    "scores and their softmax": lambda seen, scores, answer: [scores, answer],
    "scores of their own and a softmax": lambda seen, scores, answer: [dense(6, "other", seen), answer],
}


def read(folder, symbol, output=None):
    """A checkpoint as the engine predicts with it, and its arrays with those that the prediction has no use for."""
    arrays = save(folder, symbol, SHAPE)
    net = reading.read_checkpoint(str(folder / "net"), 0, reading.Given(SHAPE, output=output))
    return nets.adopt(net), arrays


def compute(symbol, arrays, images):
    bound = symbol.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
    bound.copy_params_from(*map(to_mxnet, arrays), allow_extra_params=True)
    return [output.asnumpy() for output in bound.forward(data=mx.nd.array(images))]


def make_images():
    return np.random.RandomState(1).randint(0, 256, (4, 16, 16, 3)).astype(np.uint8)


def classify(net):
    return Classifier(Predictor(net, mx.cpu())).probabilities(make_images()[:, None])


@pytest.mark.parametrize("make", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_the_graphs_own(tmp_path, make):
    symbol = make()
    net, arrays = read(tmp_path, symbol)
    (expected,) = compute(symbol, arrays, net.as_input(make_images()))
    assert np.ptp(expected, axis=1).min() > 1e-3
    np.testing.assert_allclose(classify(net), expected, rtol=1e-4)
    assert not any(note.startswith("assuming that the output") for note in net.notes)


@pytest.mark.parametrize("make", LOGARITHMS.values(), ids=LOGARITHMS)
def test_logarithms_of_a_softmax_are_not_squashed_again(tmp_path, make):
    symbol = make()
    net, arrays = read(tmp_path, symbol)
    (expected,) = compute(symbol, arrays, net.as_input(make_images()))
    np.testing.assert_allclose(classify(net), np.exp(expected), rtol=1e-4)


@pytest.mark.parametrize("make, message", NO_SCORES.values(), ids=NO_SCORES)
def test_what_is_not_known_to_be_scores_is_no_class(tmp_path, make, message):
    with pytest.raises(UserError) as told:
        require_classes(read(tmp_path, make())[0])
    assert message in str(told.value)


@pytest.mark.parametrize("make", TOLD.values(), ids=TOLD)
def test_of_several_outputs_the_one_behind_a_softmax_is_taken(tmp_path, make):
    seen = features()
    scores = dense(of=seen)
    outputs = make(seen, scores, mx.sym.softmax(scores, name="answer"))
    place = next(place for place, output in enumerate(outputs) if output.name == "answer")
    symbol = mx.sym.Group(outputs)
    net, arrays = read(tmp_path, symbol)
    expected = compute(symbol, arrays, net.as_input(make_images()))[place]
    np.testing.assert_allclose(classify(net), expected, rtol=1e-4)
    assert any(note.startswith("taking answer of the outputs") for note in net.notes)


def test_outputs_that_leave_a_choice_are_listed_and_can_be_named(tmp_path):
    seen = features()
    kind = mx.sym.softmax(dense(10, "fc_a", seen), name="kind")
    symbol = mx.sym.Group([kind, mx.sym.softmax(dense(3, "fc_b", seen), name="colour")])
    with pytest.raises(UserError, match=r"several outputs: kind \(softmax of scores\), colour .*--output NAME"):
        read(tmp_path, symbol)
    for name, place in (("kind", 0), ("colour", 1), ("colour_output", 1)):
        net, arrays = read(tmp_path, symbol, name)
        expected = compute(symbol, arrays, net.as_input(make_images()))[place]
        np.testing.assert_allclose(classify(net), expected, rtol=1e-4)
    with pytest.raises(UserError, match="has no operator shape; its outputs: kind, colour"):
        read(tmp_path, symbol, "shape")


def test_an_output_that_is_named_is_taken_for_scores(tmp_path):
    net, _ = read(tmp_path, mx.sym.BatchNorm(dense(8), name="embedding"), "embedding")
    assert (net.classes, net.activation) == (8, "softmax")
    np.testing.assert_allclose(classify(net).sum(axis=1), 1, rtol=1e-5)


def test_a_named_output_that_is_no_scores_is_doubted(tmp_path):
    net, _ = read(tmp_path, mx.sym.identity(mx.sym.softmax(dense()) * 100, name="percent"), "percent")
    assert any("though it is behind a softmax" in note for note in net.notes)


def test_the_scores_of_a_loss_of_its_own_are_taken(tmp_path):
    symbol = mx.sym.softmax_cross_entropy(dense(), mx.sym.var("softmax_label"))
    save(tmp_path, dense(), SHAPE)
    symbol.save(str(tmp_path / "net-symbol.json"))
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE)))
    assert (net.classes, net.activation) == (10, "softmax")


def test_another_input_than_images_is_told(tmp_path):
    save(tmp_path, dense(), SHAPE)
    symbol = mx.sym.softmax(mx.sym.broadcast_add(dense(), mx.sym.var("age")))
    symbol.save(str(tmp_path / "net-symbol.json"))
    net = reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given(SHAPE))
    with pytest.raises(UserError, match="needs age, which is neither its images, data, nor in the checkpoint"):
        nets.adopt(net)


@pytest.mark.parametrize("make", [lambda fc: fc, lambda fc: 64 * fc, lambda fc: fc + 2 * fc], ids=["1", "64", "3"])
def test_scores_without_a_softmax_are_assumed_to_be_some(tmp_path, make):
    net, _ = read(tmp_path, make(dense()))
    assert net.classes == 10
    assert any(note.startswith("assuming that the output") for note in net.notes)


def test_the_mean_of_a_convolution_may_be_scores(tmp_path):
    """As SqueezeNet ends."""
    convolution = mx.sym.Convolution(features(pool=False), kernel=(1, 1), num_filter=7, name="conv10")
    mean = mx.sym.Pooling(mx.sym.Activation(convolution, act_type="relu"), global_pool=True, pool_type="avg")
    net, _ = read(tmp_path, mx.sym.Flatten(mean))
    assert net.classes == 7 and any(note.startswith("assuming that the output") for note in net.notes)


@pytest.mark.skipif(not CASES.is_dir(), reason="there is no ../shared/cases")
@pytest.mark.parametrize("name", ["group_feat_sm", "softmax_makeloss"])
def test_published_ways_to_end_a_graph(tmp_path, name):
    symbol = mx.sym.load(str(CASES / f"{name}-symbol.json"))
    save(tmp_path, symbol, (3, 32, 32))
    net = nets.adopt(reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given((3, 32, 32))))
    assert (net.classes, net.activation) == (2, "softmax")
    assert symbols.from_graph(net.graph).list_outputs() == ["fc1_output"]
