"""bfloat16 and float16 on PyTorch: what is computed in them, and what becomes of gradients that overflow."""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mxnet_resnet.data.batch import Batch  # noqa: E402
from mxnet_resnet.engines.base import TrainingSpec  # noqa: E402
from mxnet_resnet.engines.torch import precision  # noqa: E402
from mxnet_resnet.engines.torch.group import ProcessGroup  # noqa: E402
from mxnet_resnet.engines.torch.training import TrainingModel  # noqa: E402
from mxnet_resnet.plans import architecture  # noqa: E402
from mxnet_resnet.settings.run import parse  # noqa: E402
from mxnet_resnet.train.setup import training_spec  # noqa: E402

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
BATCH = Batch(
    RANDOM.uniform(0, 255, (8, 3, 32, 32)).astype(np.float32), RANDOM.integers(0, 10, 8).astype(np.float32), 8
)


def begin(dtype, snapshot=None):
    spec = TrainingSpec(10, (3, 32, 32), 8, lambda step: 0.01, dtype=dtype)
    return TrainingModel(architecture.symbolic_v2(8, "cifar"), spec, CPU).start(ProcessGroup(), snapshot, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_convolutions_and_the_classifier_alone_compute_in_a_dtype(dtype):
    session, seen = begin(dtype), {}
    for kind in (torch.nn.Conv2d, torch.nn.Linear):
        for layer in (layer for layer in session.net.modules() if isinstance(layer, kind)):
            layer.register_forward_hook(
                lambda layer, given, found: seen.setdefault(type(layer), set()).add(found.dtype)
            )
    assert session.step(BATCH, 0).updated
    assert seen == {torch.nn.Conv2d: {precision.DTYPES[dtype]}, torch.nn.Linear: {precision.DTYPES[dtype]}}
    snapshot = session.snapshot()
    for arrays in (snapshot.params, snapshot.statistics, snapshot.momentum):
        assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.3), ("float16", 0.1)])
def test_a_step_is_that_of_float32_but_for_rounding(dtype, tolerance):
    """MXNet's gradients in bfloat16 are as far from those in float32: 17% at the first convolution here."""
    whole, short = begin("float32"), begin(dtype)
    assert short.step(BATCH, 0).result().loss == pytest.approx(whole.step(BATCH, 0).result().loss, rel=0.01)
    expected, found = whole.snapshot().momentum, short.snapshot().momentum
    for name in ("momentum:conv0_weight", "momentum:fc1_weight", "momentum:stage2_unit1_conv1_weight"):
        difference = np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name])
        assert 0 < difference < tolerance, name


def test_what_overflows_changes_nothing_and_halves_the_scale():
    session = begin("float16")
    session.scaler = precision.make_scaler(CPU, (2.0**60, 7))
    before = session.snapshot()
    assert not session.step(BATCH, 0).updated
    after = session.snapshot()
    for name, array in before.params.items():
        np.testing.assert_array_equal(after.params[name], array, err_msg=name)
    assert not any(array.any() for array in after.momentum.values())
    assert (before.loss_scale, after.loss_scale) == ((2.0**60, 7), (2.0**59, 0))


def test_the_scale_goes_on_and_doubles_after_a_good_while():
    session = begin("float16")
    assert session.snapshot().loss_scale == (2.0**16, 0)
    session.scaler = precision.make_scaler(CPU, (8.0, precision.STEPS_BEFORE_DOUBLING - 1))
    resumed = begin("float16", session.snapshot())
    assert resumed.snapshot().loss_scale == (8.0, precision.STEPS_BEFORE_DOUBLING - 1)
    assert resumed.step(BATCH, 0).updated
    assert resumed.snapshot().loss_scale == (16.0, 0)


def test_deterministic_runs_ask_for_a_fixed_order_of_sums(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for given in ([], ["--deterministic"]):
        settings = parse(["--data-type", "cifar10", "--depth", "8", "--engine", "torch", *given])
        spec = training_spec(settings, settings.rate.schedule(10, 128))
        TrainingModel(settings.net.plan, spec, CPU).start(ProcessGroup(), None, 0)
    assert asked == [False, True] and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
