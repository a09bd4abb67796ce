"""Which images a graph takes, by its first operators; MXNet computes what they make of images in 0..255."""

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.engines.graphs import images
from mxnet_resnet.engines.graphs.images import BYTES, UNIT
from mxnet_resnet.engines.mxnet import symbols
from mxnet_resnet.use import reading
from tests.helpers import REPOSITORY

CASE = REPOSITORY.parent / "shared/cases/05-scalar-normalisation/scalar2"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BY_CHANNEL = (1, 3, 1, 1)


def split_by_channel(data, swap):
    channels = mx.sym.SliceChannel(data, num_outputs=3, axis=1)
    order = (2, 1, 0) if swap else (0, 1, 2)
    return mx.sym.Concat(*((channels[c] - 255 * MEAN[c]) / (255 * STD[c]) for c in order), dim=1)


def slice_by_channel(data):
    parts = (mx.sym.slice_axis(data, axis=1, begin=c, end=c + 1) - 255 * MEAN[c] for c in range(3))
    return mx.sym.Concat(*parts, dim=1)


def convolve(data, groups):
    return mx.sym.Convolution(data, kernel=(1, 1), num_filter=3, num_group=groups, name="shift")


OF_BYTES = {
    "face nets": lambda x: (mx.sym.identity(x) - 127.5) * 0.0078125,
    "one factor": lambda x: x / 255,
    "a factor, then as torchvision": lambda x: mx.sym.broadcast_div(
        mx.sym.broadcast_sub(x * (1 / 255), mx.sym.var("mean")), mx.sym.var("std")
    ),
    "a mean alone": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("mean") * 255),
    "a constant before": lambda x: (0 - (117 - x)) * 0.01,
    "divided first": lambda x: x / 127.5 - 1,
    "cast": lambda x: mx.sym.cast(mx.sym.cast(x, "float16") - 117, "float32"),
    "channels apart": lambda x: split_by_channel(x, swap=False),
    "channels swapped": lambda x: split_by_channel(x, swap=True),
    "channels sliced": slice_by_channel,
    "reversed": lambda x: mx.sym.reverse(x, axis=1) - 117,
    "an own mean of each pixel": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("mean_image")),
    "a frozen convolution": lambda x: convolve(x, 1),
    "a frozen convolution by channel": lambda x: convolve(x, 3),
    "two paths": lambda x: mx.sym.Concat(x / 255, mx.sym.Pooling(x, kernel=(3, 3), pad=(1, 1)), dim=1),
    "what is not followed, behind": lambda x: mx.sym.sqrt(mx.sym.relu(x - 117)),
    "to 0..1, then a norm": lambda x: mx.sym.BatchNorm(x / 255, name="of_unit", fix_gamma=False),
    "a norm": lambda x: mx.sym.BatchNorm(x, name="of_bytes", fix_gamma=False),
}
OF_UNIT = {
    "as torchvision": lambda x: mx.sym.broadcast_div(mx.sym.broadcast_sub(x, mx.sym.var("mean")), mx.sym.var("std")),
    "to -1..1": lambda x: x * 2 - 1,
    "to 0..255": lambda x: mx.sym.broadcast_sub(x * 255, mx.sym.var("mean") * 255),
    "a norm": lambda x: mx.sym.BatchNorm(x, name="of_unit", fix_gamma=False),
    "Gluon's transform": lambda x: mx.sym.image.normalize(x, mean=tuple(MEAN), std=tuple(STD)),
}
UNKNOWN = {
    "a convolution": lambda x: mx.sym.Convolution(x, kernel=(3, 3), num_filter=4, no_bias=True, name="conv0"),
    "ImageNet's to -1..1, as Inception": lambda x: x * 0.458 - 0.03,
    "a mean put back": lambda x: x + 117,
    "a power first": lambda x: mx.sym.square(x) / 255,
    "a norm of normalised images": lambda x: mx.sym.BatchNorm(x, name="normalised", fix_gamma=False),
    "an unknown mean": lambda x: mx.sym.broadcast_sub(x, mx.sym.var("nowhere")),
    "a mixing convolution": lambda x: mx.sym.Convolution(x, kernel=(1, 1), num_filter=3, no_bias=True, name="mix"),
    "times itself": lambda x: x * x,
}


def make_arrays():
    random = np.random.RandomState(0)
    arrays = {
        "mean": MEAN.reshape(BY_CHANNEL),
        "std": STD.reshape(BY_CHANNEL),
        "mean_image": np.full((1, 3, 8, 8), 117.0),
        "shift_bias": -MEAN / STD,
        "conv0_weight": random.normal(size=(4, 3, 3, 3)),
        "mix_weight": random.normal(size=(3, 3, 1, 1)),
    }
    for norm, mean, std in (("of_bytes", 255 * MEAN, 255 * STD), ("of_unit", MEAN, STD), ("normalised", 0 * MEAN, 1)):
        arrays.update({f"{norm}_moving_mean": mean, f"{norm}_moving_var": np.full(3, std) ** 2})
        arrays.update({f"{norm}_gamma": np.ones(3), f"{norm}_beta": np.zeros(3)})
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def infer(make):
    graph = symbols.to_graph(mx.sym.relu(make(mx.sym.var("data"))))
    arrays = make_arrays()
    groups = next((node.setting("num_group", 1) for node in graph.nodes if node.name == "shift"), 1)
    scale = 1 / (255 * STD)
    arrays["shift_weight"] = scale.reshape(3, 1, 1, 1) if groups == 3 else np.diag(scale).reshape(3, 3, 1, 1)
    return images.infer_range(graph, arrays)


@pytest.mark.parametrize("make", OF_BYTES.values(), ids=OF_BYTES)
def test_nets_that_scale_images_themselves_take_0_to_255(make):
    assert infer(make) == BYTES


@pytest.mark.parametrize("make", OF_UNIT.values(), ids=OF_UNIT)
def test_nets_that_normalise_images_in_0_to_1(make):
    assert infer(make) == UNIT


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_not_told(make):
    assert infer(make) is None


def test_paths_that_contradict_each_other_tell_nothing():
    assert infer(lambda x: mx.sym.Concat(x / 255, x * 2 - 1, dim=1)) is None


def write_net(folder, make):
    """A checkpoint of arithmetic, a convolution and a classifier, by which its error shows."""
    scores = mx.sym.FullyConnected(mx.sym.Pooling(make(mx.sym.var("data")), global_pool=True), num_hidden=3, name="fc")
    symbol = mx.sym.SoftmaxOutput(scores, name="softmax")
    symbol.save(str(folder / "net-symbol.json"))
    weights = {"arg:fc_weight": mx.nd.array(np.eye(3)), "arg:fc_bias": mx.nd.zeros(3)}
    mx.nd.save(str(folder / "net-0000.params"), weights)
    return reading.read_checkpoint(str(folder / "net"), 0, reading.Given(image_shape=(3, 8, 8)))


def test_images_are_given_as_the_arithmetic_wants_them(tmp_path):
    photo = np.random.RandomState(0).randint(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    as_bytes = photo.transpose(0, 3, 1, 2).astype(np.float32)
    net = write_net(tmp_path, lambda x: (x - 127.5) * 0.0078125)
    assert net.notes == ()
    np.testing.assert_array_equal(net.as_input(photo), as_bytes)
    net = write_net(tmp_path, lambda x: x * 2 - 1)
    assert "in 0..1" in net.notes[0]
    np.testing.assert_allclose(net.as_input(photo), as_bytes / 255, rtol=1e-6)
    net = write_net(tmp_path, lambda x: x + 0)
    assert "it is not known how the net takes its images" in net.notes[0]


def test_who_says_the_same_as_the_net_is_believed(tmp_path):
    write_net(tmp_path, lambda x: x / 255)
    given = reading.Given((3, 8, 8), (0, 0, 0), (1 / 255,) * 3)
    assert reading.read_checkpoint(str(tmp_path / "net"), 0, given).takes_bytes
    with pytest.raises(reading.UserError, match="normalises its images itself"):
        reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given((3, 8, 8), (0.5, 0.5, 0.5)))


def test_who_says_otherwise_than_what_is_likely_wins(tmp_path):
    write_net(tmp_path, lambda x: x * 2 - 1)
    net = reading.read_checkpoint(str(tmp_path / "net"), 0, reading.Given((3, 8, 8), (0, 0, 0), (0.5, 0.5, 0.5)))
    assert net.notes == () and (net.std == 127.5).all()


@pytest.mark.skipif(not CASE.with_name("scalar2-0000.params").is_file(), reason="there is no ../shared/cases")
def test_a_residual_net_that_scales_its_images():
    net = reading.read_checkpoint(str(CASE), 0)
    assert net.takes_bytes and not any("normalised" in note for note in net.notes)
