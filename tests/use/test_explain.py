"""predict/explain.py and mxnet_resnet.use.gradcam: heat maps that are the paper's, of any net of the family."""

from __future__ import annotations

from dataclasses import replace

import cv2
import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import models, nets, symbols
from mxnet_resnet.engines.mxnet.gradients import FeatureGradients, split
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import gradcam, reading
from tests.helpers.conversions import as_net

FAMILY = ("resnet20", "preact_resnet20", "gluon_resnet18_v1", "gluon_resnet18_v2", "preact_wide_resnet16_8")


@pytest.fixture(scope="module")
def net(trained):
    return reading.read_checkpoint(str(trained / "model/net"), 3)


@pytest.fixture(scope="module")
def images(digits):
    files = sorted((digits / "val").iterdir())[:6]
    return [cv2.resize(cv2.imread(str(file))[:, :, ::-1], (32, 32)) for file in files]


def test_the_map_is_that_of_the_formula(net, images):
    """Behind a global average pooling and a dense layer, the gradient is the layer's weights by the pixels."""
    features = symbols.from_graph(net.graph).get_internals()["relu1_output"]
    executor = features.simple_bind(mx.cpu(), grad_req="null", data=(1, 3, 32, 32))
    executor.copy_params_from(*map(to_mxnet, (net.params, net.statistics)), allow_extra_params=True)
    classifier = net.params["fc1_weight"]
    cam = gradcam.GradCam(FeatureGradients(net, mx.cpu()))
    for image in images:
        data = mx.nd.array(image.transpose(2, 0, 1)[None])
        planes = executor.forward(is_train=False, data=data)[0].asnumpy()[0]
        for label, found in zip((0, 4, 9), cam.maps(image, (0, 4, 9))):
            expected = np.maximum(np.tensordot(classifier[label], planes, 1), 0)
            expected = cv2.resize(expected / max(expected.max(), 1e-30), (32, 32))
            assert found.shape == (32, 32) and found.min() >= 0 and found.max() <= 1
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_map_lies_where_the_object_is(shared):
    """An airplane pasted into a corner of an even image is seen there."""
    prefix = str(shared / "checkpoints/cifar_resnet20_v2")
    net = reading.read_checkpoint(prefix, 0, reading.Given(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)))
    batch = (shared / "cifar10/cifar-10-batches-bin/test_batch.bin").read_bytes()
    image = np.frombuffer(batch, np.uint8)[10 * 3073 :][1:3073].reshape(3, 32, 32).transpose(1, 2, 0)
    for top, left in ((0, 0), (16, 0), (0, 16), (16, 16)):
        canvas = np.full((32, 32, 3), image[0].mean(axis=0), np.uint8)
        canvas[top : top + 16, left : left + 16] = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
        (heat,) = gradcam.GradCam(FeatureGradients(net, mx.cpu())).maps(canvas, [0])
        assert heat[top : top + 16, left : left + 16].mean() > 1.5 * heat.mean()


@pytest.mark.parametrize("name", FAMILY)
def test_every_net_of_the_family_has_a_last_feature_map(name, images):
    plan = architecture.find(name)
    built = models.from_architecture(plan, 7)
    built.initialize()
    built(mx.nd.zeros((1, 3, 32, 32)))
    arrays = {key: value.data().asnumpy() for key, value in built.collect_params().items()}
    net = replace(as_net(plan, 7, arrays, name), image_shape=(3, 32, 32))
    features, rest = map(symbols.from_graph, split(nets.build_graph(net)))
    assert set(rest.list_arguments()) == {"features", "fc1_weight", "fc1_bias"}
    channels = arrays["fc1_weight"].shape[1]
    _, (shape,), _ = features.infer_shape(data=(2, 3, 32, 32))
    assert shape[:2] == (2, channels) and len(shape) == 4
    assert [heat.shape for heat in gradcam.GradCam(FeatureGradients(net, mx.cpu())).maps(images[0], range(7))] == [
        (32, 32)
    ] * 7


def test_a_published_graph_is_split(shared):
    graph = checkpoint.load_graph(str(shared / "symbols/tornadomeet-resnet-50")).without_softmax()
    features, rest = map(symbols.from_graph, split(graph))
    assert features.list_outputs() == ["relu1_output"]
    assert rest.list_arguments() == ["features", "fc1_weight", "fc1_bias"]


def test_a_net_without_global_pooling_is_refused():
    scores = mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("data")), num_hidden=3)
    with pytest.raises(UserError, match="no global pooling"):
        split(symbols.to_graph(scores))
    assert symbols.to_graph(scores).noted_image_shape() is None


def test_the_command_draws(command, capsys, trained, digits, tmp_path):
    files = sorted((digits / "val").iterdir())[:4]
    (tmp_path / "text.png").write_text("no image")
    flags = ("--prefix", trained / "model/net", "--epoch", 3, "--synset", digits / "synset.txt")
    out = tmp_path / "heat.png"
    status, told, err = command(capsys, "predict/explain.py", "--img", files[0], *flags, "--out", out)
    assert (status, err) == (0, "") and told.startswith(f"{files[0]}: digit ")
    one = cv2.imread(str(out)).astype(int)
    assert np.abs(one[:, :, 0] - one[:, :, 2]).max() > 100  # the digits are grey, the map is not
    more = ("--classes", "3,8", "--out", out)
    status, told, err = command(capsys, "predict/explain.py", "--img", *files, tmp_path / "text.png", *flags, *more)
    assert status == 1 and "text.png does not decode" in err
    assert [line.count("digit 3") + line.count("digit 8") for line in told.splitlines()] == [2] * 4
    status, told, err = command(capsys, "predict/explain.py", "--img", *files, *flags, "--classes", "10", "--out", out)
    assert (status, told) == (2, "") and "no class 10: the net has 0 to 9" in err


def test_towers_that_meet_before_the_pooling_have_a_feature_map_and_others_have_not():
    data = mx.sym.var("data")
    towers = [mx.sym.Convolution(data, kernel=(3, 3), num_filter=2, name=f"conv{number}") for number in range(2)]
    for join_first in (True, False):
        pooled = [mx.sym.Pooling(tower, global_pool=True, pool_type="avg") for tower in towers]
        joined = mx.sym.Pooling(mx.sym.Concat(*towers), global_pool=True) if join_first else mx.sym.Concat(*pooled)
        graph = symbols.to_graph(mx.sym.FullyConnected(joined, num_hidden=5))
        if join_first:
            before, after = split(graph)
            assert "data" in before.variables and "data" not in after.variables
        else:
            with pytest.raises(UserError, match="several paths from its images"):
                split(graph)
