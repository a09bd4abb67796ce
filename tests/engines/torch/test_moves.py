"""A run goes on with the other engine, in either direction."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

pytest.importorskip("mxnet")
pytest.importorskip("torch")

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.plans import architecture
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint, entries
from tests.helpers import REPOSITORY
from tests.helpers.runs import copy, figures, run, stop, train

ENGINES = ("mxnet", "torch")
WAYS = [(one, other) for one in ENGINES for other in ENGINES if one != other]
CALM = ("--lr", "0.001", "--lr-steps", "none", "--aug-level", "2")  # at more, rounding decides what such a run becomes


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    """The folders of a run of three epochs on each engine."""
    folders = {engine: tmp_path_factory.mktemp(engine) for engine in ENGINES}
    for engine, folder in folders.items():
        run(digits, folder, "--engine", engine, "--epochs", "3", *CALM)
    return folders


def measure(folder, other, suffix) -> float:
    """The norm of what differs between the ends of two runs of three epochs, by the norm of the arrays.

    Those are all parameters, or all momentum.
    """
    paths = (entries.file(f"{path}/model/net", "0003", suffix) for path in (folder, other))
    found, expected = map(checkpoint.load_arrays, paths)
    assert found.keys() == expected.keys()
    names = [name for name in expected if not name.startswith(checkpoint.STATISTIC)]
    one, another = (np.concatenate([arrays[name].ravel() for name in names]) for arrays in (found, expected))
    return float(np.linalg.norm(one - another) / np.linalg.norm(another))


@pytest.mark.parametrize("first, second", WAYS)
def test_a_run_goes_on_with_the_other_engine(undisturbed, digits, tmp_path, monkeypatch, first, second):
    """Within an epoch, and after two: it ends near the undisturbed one, as that of the other engine does."""
    stop(monkeypatch, "_step", epoch=1, batch=6)
    with pytest.raises(Interrupted):
        run(digits, tmp_path, "--engine", first, "--epochs", "2", *CALM)
    run(digits, tmp_path, "--engine", second, "--resume")
    run(digits, tmp_path, "--engine", first, "--resume", "--epochs", "3")
    log = (tmp_path / "log/net/train.log").read_text()
    for before, after in ((first, second), (second, first)):
        assert f"Not to the bit the same run: machine engine was {before}, is {after}" in log
        assert "machine version was" not in log and "executed graph was" not in log  # each engine has its own
    for suffix, tolerance in (("params", 5e-4), ("state", 0.2)):
        assert measure(tmp_path, undisturbed[first], suffix) < tolerance
        assert measure(undisturbed[second], undisturbed[first], suffix) < tolerance
    assert logreader.read(tmp_path / "log/net/train.log").epochs.keys() == {0, 1, 2}
    assert len(figures(tmp_path)) == len(figures(undisturbed[first]))


@pytest.mark.parametrize("first, second", WAYS)
def test_retraining_keeps_the_momentum_of_the_other_engine(undisturbed, digits, tmp_path, first, second):
    retrain = ("--engine", second, "--retrain", "--model-load-epoch", "2", "--epochs", "3", *CALM)
    folder = copy(undisturbed[first], tmp_path / "run")
    run(digits, folder, *retrain)
    changed = rf"Starting from \S+-0002\.params, after 2 epochs\. Changed: .*machine engine was {first}, is {second}"
    assert re.search(changed, (folder / "log/net/train.log").read_text())
    without = copy(undisturbed[first], tmp_path / "without")
    run(digits, without, *retrain, "--reset-optimizer")
    assert measure(folder, undisturbed[first], "params") < 1e-4 < 5e-4 < measure(without, undisturbed[first], "params")
    assert measure(folder, undisturbed[first], "state") < 0.1 < 0.2 < measure(without, undisturbed[first], "state")


def test_a_run_in_float16_stays_where_there_is_float16(digits, tmp_path):
    """The CPU of PyTorch has it, with the scale of the loss in the checkpoint; that of MXNet has not."""
    run(digits, tmp_path, "--engine", "torch", "--epochs", "1", "--dtype", "float16", *CALM)
    before = entries.read(f"{tmp_path}/model/net", "0001")
    assert before.loss_scale == [2.0**16, before.step]
    with pytest.raises(UserError, match="--dtype float16 needs a GPU: on the CPU take bfloat16 or float32"):
        run(digits, tmp_path, "--engine", "mxnet", "--resume", "--epochs", "2")
    run(digits, tmp_path, "--engine", "torch", "--resume", "--epochs", "2")
    after = entries.read(f"{tmp_path}/model/net", "0002")
    assert after.loss_scale == [2.0**16, after.step]


@pytest.mark.parametrize("more", ["--dtype bfloat16", "--mom 0", "--mixup 0.4 --label-smoothing 0.1", "--memonger"])
def test_a_run_goes_on_whatever_its_settings(digits, tmp_path, more):
    for number, engine in enumerate((*ENGINES, ENGINES[0]), 1):
        run(digits, tmp_path, "--engine", engine, "--resume", "--epochs", str(number), *more.split(), "--lr", "0.01")
    trained = logreader.read(tmp_path / "log/net/train.log").epochs
    assert trained.keys() == {0, 1, 2} and trained[2].train["cross-entropy"] < trained[0].train["cross-entropy"]


def test_a_run_of_two_devices_goes_on_with_one(digits, tmp_path):
    run(digits, tmp_path, "--engine", "mxnet", "--cpus", "2", "--epochs", "1", *CALM)
    run(digits, tmp_path, "--engine", "torch", "--gpus", "none", "--resume", "--epochs", "2")
    log = (tmp_path / "log/net/train.log").read_text()
    assert "machine engine was mxnet, is torch" in log and "machine devices was 2, is 1" in log


def test_a_run_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "tests/files/entry", tmp_path / "model")
    shutil.move(tmp_path / "model/tiny.rec", tmp_path)
    monkeypatch.chdir(tmp_path)
    train(["--model-prefix", "model/net", "--resume", "--epochs", "3", "--engine", "torch"])
    assert "machine engine was mxnet, is torch" in (tmp_path / "log/net/train.log").read_text()
    assert entries.read("model/net", "0003").step == 12


def test_both_begin_with_the_same_values():
    for network in ("resnet20_v2", "preact_resnet20", "gluoncv_cifar_resnet20_v1", "preact_wide_resnet16_8"):
        spec = TrainingSpec(10, (3, 32, 32), 2, lambda step: 0.1, seed=7, zero_init_residual="preact" in network)
        starts = []
        for engine in map(engines.choose, ENGINES):
            devices = engine.choose_devices([], None)
            with engine.join("local", devices) as group:
                starts.append(engine.model(architecture.find(network), spec, devices).start(group, None, 0).snapshot())
        found, expected = ({**start.params, **start.statistics} for start in starts)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{network} {name}")
