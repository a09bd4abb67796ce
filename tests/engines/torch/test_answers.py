"""Trained nets give the same answers on both engines, and on PyTorch where MXNet cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mxnet")
pytest.importorskip("torch")

import mxnet as mx
from mxnet.gluon.model_zoo import vision

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.use import export, reading
from mxnet_resnet.use.classifier import Classifier
from mxnet_resnet.use.gradcam import GradCam
from tests.helpers import REPOSITORY

FAST = f"{REPOSITORY}/log/results/cifar10-fast-seed1/cifar10-fast-seed1"
GLUONCV = reading.Given(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
WITHOUT_MXNET = """
import runpy, sys
sys.modules["mxnet"] = None
runpy.run_module("mxnet_resnet", run_name="__main__")
"""
IMAGENET = reading.Given(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def read_images(shared: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Test images of CIFAR-10 as crops (N, 1, 32, 32, 3), and their classes (N,)."""
    raw = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)[:count]
    return raw[:, 1:].reshape(-1, 1, 3, 32, 32).transpose(0, 1, 3, 4, 2), raw[:, 0]


def compute(engine_name: str, read, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of images, and the heat maps of the first of them for every class, by an engine."""
    engine = engines.choose(engine_name)
    devices = engine.choose_devices([], None)
    net = engine.adopt(read())
    heats = GradCam(engine.gradients(net, devices)).maps(crops[0, 0], range(10))
    return Classifier(engine.predictor(net, devices, 32, "float32")).probabilities(crops), np.stack(heats)


READ = {
    "ours": lambda folder: reading.read_checkpoint(FAST, 19),
    "ours, of its parameters": lambda folder: reading.read_known(f"{FAST}-0019.params"),
    "GluonCV's graph, v1": lambda folder: reading.read_checkpoint(str(folder / "cifar_resnet20_v1"), 0, GLUONCV),
    "GluonCV's graph, v2": lambda folder: reading.read_checkpoint(str(folder / "cifar_resnet20_v2"), 0, GLUONCV),
    "GluonCV's parameters": lambda folder: reading.read_known(
        str(folder / "cifar_resnet20_v2-0000.params"), None, GLUONCV
    ),
    "PyTorch's": lambda folder: reading.read_known(str(folder / "resnet20-12fca82f.th"), None, IMAGENET),
}


@pytest.mark.parametrize("kind", READ)
def test_answers_are_the_same(shared, kind):
    crops, labels = read_images(shared, 100)
    (expected, heats), (found, others) = (
        compute(engine, lambda: READ[kind](shared / "checkpoints"), crops) for engine in ("mxnet", "torch")
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(others, heats, atol=1e-3)
    assert (found.argmax(axis=1) == labels).mean() > 0.85 and heats.max() > 0.9


def refuse(prefix: str, match: str) -> None:
    net = reading.read_checkpoint(prefix, 0)
    with pytest.raises(UserError, match=match):
        engines.choose("torch").adopt(net)
    engines.choose("mxnet").adopt(net)


def test_a_graph_of_another_net_is_for_mxnet(tmp_path):
    net = vision.mobilenet0_25(classes=10)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    net.export(str(tmp_path / "mobile"))
    refuse(str(tmp_path / "mobile"), "MXNet alone computes other graphs, and folded and int8 exports")


def test_a_folded_graph_is_for_mxnet(tmp_path):
    export.export_folded(str(tmp_path / "folded"), engines.choose("mxnet").adopt(reading.read_checkpoint(FAST, 19)))
    refuse(str(tmp_path / "folded"), "MXNet alone computes other graphs, and folded and int8 exports")


@pytest.mark.parametrize(
    "operator, name, setting, value",
    [
        ("Convolution", "conv0", "dilate", "(2, 2)"),
        ("Convolution", "stage1_unit1_conv2", "num_group", "2"),
        ("Convolution", "conv0", "layout", "NHWC"),
        ("BatchNorm", "bn1", "axis", "2"),
        ("BatchNorm", "bn1", "fix_gamma", "True"),
    ],
)
def test_a_graph_that_differs_in_one_setting_is_not_taken_for_ours(operator, name, setting, value):
    net = reading.read_checkpoint(FAST, 19)
    nodes = [
        replace(node, attrs={**node.attrs, setting: value}) if node.name == name else node for node in net.graph.nodes
    ]
    assert [node.op for node in nodes if node.name == name] == [operator]
    with pytest.raises(UserError, match="fits no family"):
        engines.choose("torch").adopt(replace(net, graph=replace(net.graph, nodes=tuple(nodes))))


def test_arrays_that_the_graph_has_not_are_refused_by_both():
    net = reading.read_checkpoint(FAST, 19)
    more = replace(net, params={**net.params, "foo_weight": np.zeros(3, np.float32)})
    for engine in ("mxnet", "torch"):
        with pytest.raises(UserError, match="does not fit the net, which has no foo_weight"):
            engines.choose(engine).adopt(more)


@pytest.fixture
def without_mxnet(tmp_path):
    """Run a command of the package where there is no MXNet: (status, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_MXNET, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_commands_work_without_mxnet(without_mxnet, shared, trained, digits, tmp_path):
    image = sorted((digits / "val").iterdir())[0]
    ours = ("--prefix", trained / "model/net", "--epoch", 3)
    status, said, told = without_mxnet("predict", "--img", image, *ours, "--synset", digits / "synset.txt")
    assert status == 0 and "digit" in said and "MXNet is not installed" in told
    records = ("--data", digits / "digits_val.rec")
    status, said, told = without_mxnet("evaluate", *records, *ours, "--engine", "torch")
    assert (status, told) == (0, "") and said.startswith("top-1 error ")
    status, said, told = without_mxnet("explain", "--img", image, *ours, "--engine", "torch", "--out", "heat.png")
    assert (status, told) == (0, "") and cv2.imread(str(tmp_path / "heat.png")) is not None
    folder = shared / "checkpoints"
    for params in (folder / "cifar_resnet20_v2-0000.params", folder / "resnet20-12fca82f.th"):
        status, said, told = without_mxnet("predict", "--img", image, "--params", params, "--engine", "torch")
        assert status == 0 and said.startswith("top-1: class "), told
    flags = ("--data-type", "digits", "--data-dir", digits, "--depth", 8, "--model-prefix", trained / "model/net")
    status, said, told = without_mxnet("train", *flags, "--engine", "torch", "--eval-only")
    assert status == 0 and said.startswith("top-1 error "), told
