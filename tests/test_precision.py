import mxnet as mx
import numpy as np
import pytest
from conftest import train_arguments

from mxnet_resnet import logbook, options, precision, trainer
from mxnet_resnet.errors import UserError
from mxnet_resnet.precision import FIRST_SCALE, LARGEST_SCALE, STEPS_BEFORE_DOUBLING, LossScaler

has_bfloat16 = pytest.mark.skipif(not precision._has_bfloat16(), reason="this CPU has no AVX512-BF16")
Loop = trainer.Loop


@has_bfloat16
def test_bfloat16_learns_as_float32_does(digits, tmp_path, trained):
    trainer.train(options.parse(train_arguments(digits, tmp_path, "--epochs", "3", "--dtype", "bfloat16")))
    found, expected = (logbook.read(path / "log/net/train.log").curve("train") for path in (tmp_path, trained))
    assert found != expected
    assert [error for _, error in found] == pytest.approx([error for _, error in expected], abs=12)
    # What is saved is float32, for everyone: the graph has no casts, and the weights are whole.
    symbol, args, auxs = mx.model.load_checkpoint(str(tmp_path / "model/net"), 3)
    assert "amp_cast" not in symbol.tojson()
    assert {array.dtype for array in [*args.values(), *auxs.values()]} == {np.float32}
    weights = args["stage2_unit1_conv1_weight"].asnumpy().view(np.uint32)
    assert (weights & 0xFFFF).any()  # bits that bfloat16 has not


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_convolutions_and_the_classifier_compute_in_less_precision(dtype):
    symbol = trainer.build_symbol(options.parse(["--data-type", "cifar10", "--depth", "8"]))
    lowered = precision.lower(symbol, dtype)
    assert lowered.list_arguments() == symbol.list_arguments()
    internals = lowered.get_internals()
    types = dict(zip(internals.list_outputs(), internals.infer_type(data="float32")[1]))
    low = {np.dtype(types[name]).name if name in types else None for name in ("conv0_output", "fc1_output")}
    assert low == ({"float16"} if dtype == "float16" else {str(np.dtype(mx.base.bfloat16))})
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
        precision.check(dtype, [context])


def test_a_cpu_without_bfloat16_is_told(monkeypatch):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: False)
    with pytest.raises(UserError, match="AVX512-BF16"):
        precision.check("bfloat16", [mx.cpu()])


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


def scaled(digits, folder, monkeypatch, overflow_at: int | None = None) -> Loop:
    """A run in float32 whose loss is scaled as for float16; gradients of one step may be made to overflow."""
    build, fit, loops = trainer.build_symbol, Loop.run, []

    def symbol(parsed, training=False):
        changed = options.parse(train_arguments(digits, folder))
        changed.__dict__.update(vars(parsed), dtype="float32")
        if not training:
            return build(changed)
        net = trainer.models.from_architecture(trainer.network_plan(parsed), parsed.num_classes, parsed.bn_mom)
        return trainer.symbols.softmax(net, parsed.workspace, parsed.image_shape, scaled=True)

    def run(loop):
        loops.append(loop)
        loop.scaler = LossScaler(*loop.position.loss_scale or ())
        fit(loop)

    update = Loop._scaled_update

    def overflowing(loop):
        if loop.position.epoch * 12 + loop.position.batch == overflow_at:
            before = loop.scaler.scale
            loop.scaler.scale = 3e38
            good = update(loop)
            assert not good
            loop.scaler.scale = before / 2
            return good
        return update(loop)

    monkeypatch.setattr(trainer, "build_symbol", symbol)
    monkeypatch.setattr(Loop, "run", run)
    monkeypatch.setattr(Loop, "_scaled_update", overflowing)
    trainer.train(options.parse(train_arguments(digits, folder, "--epochs", "1")))
    monkeypatch.undo()
    return loops[0]


def test_a_scaled_loss_gives_the_same_weights(digits, tmp_path, monkeypatch, trained):
    """A power of two is exact in float32."""
    loop = scaled(digits, tmp_path, monkeypatch)
    assert loop.position.step == 23
    expected = mx.nd.load(str(trained / "model/net-0001.params"))
    found = mx.nd.load(str(tmp_path / "model/net-0001.params"))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_step_whose_gradients_overflow_is_left_out(digits, tmp_path, monkeypatch):
    loop = scaled(digits, tmp_path, monkeypatch, overflow_at=5)
    assert loop.position.step == 22
    assert loop.scaler.scale == FIRST_SCALE / 2
    for array in mx.nd.load(str(tmp_path / "model/net-0001.params")).values():
        assert np.isfinite(array.asnumpy()).all()
