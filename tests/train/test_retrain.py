"""Starting again from an epoch, or from the parameters of someone else."""

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint, entries, ledger
from mxnet_resnet.settings.run import parse
from tests.helpers.runs import assert_same_run, copy, run, stop


def test_retrain_keeps_the_momentum_and_tells_what_changed(three_epochs, digits, tmp_path):
    """From epoch 2 with nothing changed is the run itself; with other values, or without momentum, it is not."""
    retrain = ("--retrain", "--model-load-epoch", "2", "--epochs", "3")
    same = copy(three_epochs, tmp_path / "same")
    run(digits, same, *retrain)
    assert_same_run(same, three_epochs, "0003")
    assert "net-0002.params, after 2 epochs. Changed: nothing" in (same / "log/net/train.log").read_text()
    for name, more in (("reset", ["--reset-optimizer"]), ("other", ["--lr", "0.05", "--wd", "0.001"])):
        folder = copy(three_epochs, tmp_path / name)
        run(digits, folder, *retrain, *more)
        with pytest.raises(AssertionError):
            assert_same_run(folder, three_epochs, "0003")
    log = (folder / "log/net/train.log").read_text()
    assert "Changed: weight decay was 0.0001, is 0.001; learning rate lr was 0.1, is 0.05" in log


def test_a_retrain_that_stopped_is_resumed(three_epochs, digits, tmp_path, monkeypatch):
    retrain = ("--retrain", "--model-load-epoch", "1", "--epochs", "3", "--lr", "0.05")
    whole, cut = copy(three_epochs, tmp_path / "whole"), copy(three_epochs, tmp_path / "cut")
    run(digits, whole, *retrain)
    stop(monkeypatch, "_step", epoch=2, batch=3)
    with pytest.raises(Interrupted):
        run(digits, cut, *retrain)
    run(digits, cut, "--resume")
    assert_same_run(cut, whole, "0003")


def test_training_starts_from_the_parameters_of_someone_else(three_epochs, digits, tmp_path):
    """A file of MXNet's own, with no momentum, of any name."""
    symbol, args, auxs = mx.model.load_checkpoint(str(three_epochs / "model/net"), 3)
    mx.model.save_checkpoint(str(tmp_path / "theirs"), 0, symbol, args, auxs)
    theirs = ("--retrain", "--load-params", f"{tmp_path}/theirs-0000.params", "--lr", "0.001", "--epochs", "1")
    run(digits, tmp_path / "file", *theirs)
    train = logreader.read(tmp_path / "file/log/net/train.log").epochs[0].train["top1"]
    assert train < logreader.read(three_epochs / "log/net/train.log").epochs[2].train["top1"] + 5
    run(digits, tmp_path / "epoch", "--retrain", "--model-load-epoch", "0", "--model-prefix", f"{tmp_path}/theirs",
        "--epochs", "1", "--lr", "0.001")  # fmt: skip
    log = (tmp_path / "epoch/log/theirs/train.log").read_text()
    assert "theirs-0000.params, without momentum" in log


def test_retrain_goes_on_at_the_step_of_the_epoch(digits, tmp_path):
    """Whatever --num-examples makes of an epoch in the schedule."""
    few = ("--num-examples", "120", "--lr-steps", "2")
    run(digits, tmp_path, "--epochs", "2", *few)
    run(digits, tmp_path, "--epochs", "2", "--retrain", "--model-load-epoch", "1", *few)
    assert entries.read(f"{tmp_path}/model/net", "0002").step == 24
    assert "Changed: nothing" in (tmp_path / "log/net/train.log").read_text()


@pytest.mark.parametrize("suffix", ["state", "json"])
def test_retrain_needs_nothing_but_parameters(three_epochs, digits, tmp_path, suffix):
    folder = copy(three_epochs, tmp_path / "run")
    entries.file(f"{folder}/model/net", "0002", suffix).unlink()
    run(digits, folder, "--retrain", "--model-load-epoch", "2", "--epochs", "3")
    told = "momentum starts from zero: " if suffix == "state" else "net-0002.params, without momentum"
    assert told in (folder / "log/net/train.log").read_text()


def test_retrain_refuses_parameters_that_are_damaged(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    path = entries.file(f"{folder}/model/net", "0002", "params")
    content = bytearray(path.read_bytes())
    content[4000:4400] = bytes(byte ^ 1 for byte in content[4000:4400])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net-0002\.params is damaged"):
        run(digits, folder, "--retrain", "--model-load-epoch", "2", "--epochs", "3")


def test_the_warm_up_of_a_recipe_does_not_come_again(tmp_path):
    """Nor does its learning rate count as a new one."""
    recipe = tmp_path / "a.yaml"
    recipe.write_text("data-type: cifar10\nlr: 0.2\nlr-steps: [10]\nwarmup-steps: 400\n")
    begun = ["--recipe", str(recipe), "--retrain", "--model-load-epoch", "50"]
    rates = [parse([*begun, *more]).rate.schedule(100, 128) for more in ([], ["--lr", "0.0005"])]
    assert [rate(5000) for rate in rates] == [pytest.approx(0.02), 0.0005]


def test_a_loss_that_is_not_finite_stops_the_run(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    with pytest.raises(
        UserError, match=r"at step \d+ \(Epoch\[3\], batch \d+\): the last good checkpoint is .*net-0003"
    ):
        run(digits, folder, "--epochs", "5", "--retrain", "--model-load-epoch", "3", "--lr", "1e18")
    for name in ledger.names(f"{folder}/model/net"):
        for array in checkpoint.load_arrays(entries.file(f"{folder}/model/net", name, "params")).values():
            assert np.isfinite(array).all()
