from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.contrib.amp.amp import bfloat16

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import compat, precision
from mxnet_resnet.engines.mxnet.precision import FIRST_SCALE, LARGEST_SCALE, STEPS_BEFORE_DOUBLING, LossScaler
from mxnet_resnet.engines.mxnet.session import ModuleSession
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import entries
from mxnet_resnet.settings.run import parse
from tests.helpers.runs import WELL, model_of, train, train_arguments

has_bfloat16 = pytest.mark.skipif(not compat.has_bfloat16(), reason="this CPU has no AVX512-BF16")
FEW = ("--batch-size", "256", "--lr", "0.01")


@has_bfloat16
def test_bfloat16_learns_as_float32_does(digits, tmp_path, trained):
    train(train_arguments(digits, tmp_path, *WELL, "--epochs", "3", "--dtype", "bfloat16"))
    found, expected = (logreader.read(path / "log/net/train.log").curve("train") for path in (tmp_path, trained))
    assert found != expected
    assert found[-1][1] == pytest.approx(expected[-1][1], abs=8)
    # What is saved is float32, for everyone: the graph has no casts, and the weights are whole.
    symbol, args, auxs = mx.model.load_checkpoint(str(tmp_path / "model/net"), 3)
    assert "amp_cast" not in symbol.tojson()
    assert {array.dtype for array in [*args.values(), *auxs.values()]} == {np.float32}
    weights = args["stage2_unit1_conv1_weight"].asnumpy().view(np.uint32)
    assert (weights & 0xFFFF).any()  # bits that bfloat16 has not


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_convolutions_and_the_classifier_compute_in_less_precision(dtype):
    parsed = parse(["--data-type", "cifar10", "--depth", "8"])
    symbol = model_of(parsed).symbol
    lowered = precision.lower(symbol, dtype)
    assert lowered.list_arguments() == symbol.list_arguments()
    internals = lowered.get_internals()
    types = dict(zip(internals.list_outputs(), internals.infer_type(data="float32")[1]))
    half = np.float16 if dtype == "float16" else bfloat16
    assert types["conv0_output"] == types["stage3_unit1_conv2_output"] == types["fc1_output"] == half
    assert types["softmax_output"] == types["bn_data_output"] == np.float32


@pytest.mark.parametrize(
    "dtype, context, message",
    [
        ("float16", mx.cpu(), "needs a GPU"),
        ("bfloat16", mx.gpu(), "on the CPU alone"),
    ],
)
def test_devices_that_cannot_are_told(dtype, context, message):
    with pytest.raises(UserError, match=message):
        precision.check_dtype(dtype, [context])


def test_a_cpu_without_bfloat16_is_told(monkeypatch):
    monkeypatch.setattr(compat, "has_bfloat16", lambda: False)
    with pytest.raises(UserError, match="AVX512-BF16"):
        precision.check_dtype("bfloat16", [mx.cpu()])


def test_the_loss_scale_halves_at_an_overflow_and_doubles_after_a_while():
    scaler = LossScaler()
    assert not scaler.good(False)
    assert scaler.scale == FIRST_SCALE / 2
    assert all(scaler.good(True) for _ in range(STEPS_BEFORE_DOUBLING))
    assert (scaler.scale, scaler.steps) == (FIRST_SCALE, 0)
    for _ in range(100 * STEPS_BEFORE_DOUBLING):
        scaler.good(True)
    assert scaler.scale == LARGEST_SCALE


def test_one_value_that_is_not_finite_is_found():
    arrays = [mx.nd.ones((3, 4)) for _ in range(450)]
    assert precision.finite(arrays)
    arrays[430][2, 3] = np.inf
    assert not precision.finite(arrays)


def scaled(digits, folder, monkeypatch, *more: str, overflow_at: int | None = None) -> ModuleSession:
    """A run as with --dtype float16 but for the casts; the gradients of one step may be made to overflow."""
    step, update, sessions, numbers = ModuleSession.step, ModuleSession._update_scaled, {}, []

    def noting(session, batch, number):
        sessions[session] = None
        numbers.append(number)
        return step(session, batch, number)

    def overflowing(session, batch, scaler):
        before, now = scaler.scale, len(numbers) - 1
        if now == overflow_at:
            scaler.scale = np.inf
        good = update(session, batch, scaler)
        if now == overflow_at:
            scaler.scale = before / 2
        return good

    monkeypatch.setattr(precision, "check_dtype", lambda *_: None)
    monkeypatch.setattr(precision, "lower", lambda symbol, _: symbol)
    monkeypatch.setattr(ModuleSession, "step", noting)
    monkeypatch.setattr(ModuleSession, "_update_scaled", overflowing)
    train(train_arguments(digits, folder, "--epochs", "1", "--dtype", "float16", *more))
    monkeypatch.undo()
    (session,) = sessions
    return session


@pytest.mark.parametrize("more", ["", "--label-smoothing 0.1", "--mixup 0.5", "--memonger --cpus 2"])
def test_a_scaled_loss_gives_the_same_weights(digits, tmp_path, monkeypatch, more):
    """But for rounding: gradients are those of SoftmaxOutput, to which float32 leaves room for the scale."""
    session = scaled(digits, tmp_path / "scaled", monkeypatch, *FEW, *more.split())
    assert entries.read(f"{tmp_path}/scaled/model/net", "0001").step == 6
    assert session.scaler.scale == FIRST_SCALE
    train(train_arguments(digits, tmp_path / "plain", "--epochs", "1", *FEW, *more.split()))
    expected = mx.nd.load(str(tmp_path / "plain/model/net-0001.params"))
    found = mx.nd.load(str(tmp_path / "scaled/model/net-0001.params"))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), rtol=0, atol=1e-3, err_msg=name)


def test_a_step_whose_gradients_overflow_is_left_out(digits, tmp_path, monkeypatch):
    scaled(digits, tmp_path, monkeypatch, *FEW, overflow_at=2)
    entry = entries.read(f"{tmp_path}/model/net", "0001")
    assert entry.step == 5
    assert entry.loss_scale == [FIRST_SCALE / 2, 3]
    for array in mx.nd.load(str(tmp_path / "model/net-0001.params")).values():
        assert np.isfinite(array.asnumpy()).all()
