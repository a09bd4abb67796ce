"""Trained nets from files, in one form, and what reading them takes."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import nets
from mxnet_resnet.engines.net import IMAGENET_MEAN, IMAGENET_STD, TrainedNet
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import reading, writing
from mxnet_resnet.use.classifier import softmax
from tests.helpers import REPOSITORY
from tests.helpers.conversions import ours, with_arrays


def test_images_are_taken_as_the_net_takes_them():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    plain = TrainedNet("a net", {}, {}, (3, 4, 5), 10)
    assert plain.takes_bytes and plain.as_input(pixels).dtype == np.float32
    np.testing.assert_array_equal(plain.as_input(pixels), pixels.transpose(0, 3, 1, 2))
    normalised = TrainedNet("a net", {}, {}, (3, 4, 5), 10, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert not normalised.takes_bytes
    expected = (pixels.astype(np.float64) - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(normalised.as_input(pixels), expected.transpose(0, 3, 1, 2), rtol=1e-5)


def test_probabilities_are_those_of_the_scores_however_large():
    found = softmax(np.array([[0, 1000, 1000], [-1e30, 0, -5], [1, 1, 1]], np.float32))
    np.testing.assert_allclose(found, [[0, 0.5, 0.5], [0, 0.9933, 0.0067], [1 / 3] * 3], atol=1e-4)


def test_a_net_is_the_same_from_each_kind_of_file(tmp_path):
    source = ours(architecture.find("preact_resnet20"))
    writing.write_module(str(tmp_path / "net"), source)
    writing.write_gluon(tmp_path / "net.params", source)
    images = np.random.default_rng(0).normal(size=(3, *source.image_shape)).astype(np.float32)
    expected = nets.compute_scores(source, images)
    read = reading.read_checkpoint(str(tmp_path / "net"))
    assert read.classes is None
    found = [nets.adopt(read)]
    for name in ("net", "net-symbol.json", "net-0000.params", "net.params"):
        found.append(reading.read_known(str(tmp_path / name)))
        assert found[-1].plan == replace(source.plan, source=found[-1].plan.source)
        assert reading.recognise(found[-1]) is found[-1]
    for net in found:
        assert (net.classes, net.image_shape) == (10, (3, 32, 32))
        assert net.params.keys() == source.params.keys() and net.statistics.keys() == source.statistics.keys()
        np.testing.assert_allclose(net.mean, IMAGENET_MEAN)
        assert any("as for ImageNet" in note for note in net.notes)
        np.testing.assert_array_equal(nets.compute_scores(net, images), expected)


def test_what_is_given_wins(tmp_path):
    writing.write_module(str(tmp_path / "net"), ours(architecture.find("preact_resnet20")))
    found = reading.read_checkpoint(str(tmp_path / "net"), given=reading.Given((3, 48, 48), (0.5, 0.5, 0.5), None))
    assert found.image_shape == (3, 48, 48) and not found.notes
    np.testing.assert_allclose((found.mean, found.std), ([127.5] * 3, [255] * 3))


def test_arrays_that_do_not_fit_the_graph_are_told(tmp_path):
    source, prefix = ours(architecture.find("resnet20")), str(tmp_path / "net")
    writing.write_module(prefix, source)
    graph = (tmp_path / "net-symbol.json").read_text()
    checkpoint.save(prefix, 0, graph, source.params, {})
    with pytest.raises(UserError, match=r"does not fit the net: it has no bn0_moving_\w+, expected with shape \(16,\)"):
        nets.adopt(reading.read_checkpoint(prefix))
    with pytest.raises(UserError, match="does not fit its graph: it has no bn0_moving_mean"):
        reading.read_known(prefix)
    checkpoint.save(prefix, 0, graph, {**source.params, "fc1_bias": np.zeros(11, np.float32)}, source.statistics)
    with pytest.raises(UserError, match=r"does not fit the net: fc1_bias has shape \(11,\), expected \(10,\)"):
        nets.adopt(reading.read_checkpoint(prefix))
    checkpoint.save(prefix, 0, graph, {**source.params, "more": np.zeros(1, np.float32)}, source.statistics)
    with pytest.raises(UserError, match="does not fit the net, which has no more"):
        nets.adopt(reading.read_checkpoint(prefix))


def test_an_operator_that_mxnet_has_not_is_told(tmp_path):
    writing.write_module(str(tmp_path / "net"), ours(architecture.find("resnet20")))
    graph = tmp_path / "net-symbol.json"
    graph.write_text(graph.read_text().replace('"Pooling"', '"Puling"'))
    with pytest.raises(
        UserError, match=r"net-symbol.json is damaged or .* the operator .Puling. \(.pool1.\) is not one"
    ):
        nets.adopt(reading.read_checkpoint(str(tmp_path / "net")))


def test_a_net_of_parameters_alone_is_adopted_with_its_graph():
    source = ours(architecture.find("preact_resnet20"))
    adopted = nets.adopt(source)
    assert (adopted.graph.last.name, adopted.classes, adopted.plan) == ("fc1", 10, source.plan)
    assert adopted.graph.noted_image_shape() == source.image_shape
    weight = source.params["conv0_weight"]
    for changed, message in (
        ({"conv0_weight": weight[:1]}, r"conv0_weight has shape \(1, 3, 3, 3\), expected \(16, 3, 3, 3\)"),
        ({"conv1_weight": weight}, "which has no conv1_weight"),
    ):
        with pytest.raises(UserError, match=f"the checkpoint does not fit the net.* {message}"):
            nets.adopt(with_arrays(source, **changed))


def test_files_are_read_where_there_is_no_mxnet(tmp_path):
    source = ours(architecture.find("preact_resnet20"))
    writing.write_module(str(tmp_path / "net"), source)
    writing.write_gluon(tmp_path / "net.params", source)
    code = f"""
import sys
sys.modules["mxnet"] = None
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import classifier, chosen, evaluate, export, gradcam, predict, proof, reading, samples, writing
graph = checkpoint.load_graph("{tmp_path}/net")
params, statistics = checkpoint.load_params("{tmp_path}/net", 0)
assert set(graph.variables) == {{"data", "softmax_label", *params, *statistics}}
net = reading.read_known("{tmp_path}/net.params")
assert net.classes == 10 and net.plan.preact and net.arrays.keys() == {{*params, *statistics}}
writing.write_module("{tmp_path}/copy", net)
written = [open("{tmp_path}/" + name, "rb").read() for name in ("net-0000.params", "copy-0000.params")]
assert written[0] == written[1] and checkpoint.load_graph("{tmp_path}/copy") == graph
assert reading.read_known("{tmp_path}/copy").plan == reading.read_known("{tmp_path}/net").plan
assert reading.read_checkpoint("{tmp_path}/net").classes is None
print("\\n".join(proof.describe(net)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=100, capture_output=True, text=True
    )
    assert "20 layers and 2 projections on shortcuts, 272,282 parameters" in done.stdout
