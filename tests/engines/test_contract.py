"""The loop, the records, the checkpoints and the log know no framework: an engine in NumPy trains and goes on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint, entries
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.run import train
from tests.helpers import REPOSITORY
from tests.helpers.runs import arguments, stop
from tests.helpers.toy import ToyEngine

ALONE = """
import sys
sys.modules.update(dict.fromkeys(("mxnet", "torch")))  # None: importing them fails
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.run import train
from tests.helpers.toy import ToyEngine
train(parse(sys.argv[1:]), ToyEngine())
"""


def test_an_engine_of_another_framework_trains_without_mxnet(digits, tmp_path):
    given = arguments(digits, tmp_path, "--epochs", "2", "--lr", "0.05")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *given], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    run = logreader.read(tmp_path / "log/net/train.log")
    assert run.epochs[1].validation["top1"] < 50 and run.parameters == 30720
    assert "Computing in NumPy" in done.stderr and "Toy 1" in done.stderr
    page = (tmp_path / "log/net/report.html").read_text()
    assert "most confused" in page.lower()


@pytest.mark.parametrize("more", [(), ("--mixup", "0.3", "--lr-schedule", "cosine")])
def test_its_runs_stop_and_go_on_to_the_bit(digits, tmp_path, monkeypatch, more):
    given = ("--epochs", "3", "--lr", "0.05", "--aug-level", "2", *more)
    train(parse(arguments(digits, tmp_path / "whole", *given)), ToyEngine())
    stop(monkeypatch, "_step", epoch=1, batch=4)
    with pytest.raises(Interrupted):
        train(parse(arguments(digits, tmp_path / "cut", *given)), ToyEngine())
    train(parse(arguments(digits, tmp_path / "cut", "--resume")), ToyEngine())
    whole, cut = (checkpoint.load_run(prefix, entries.read(prefix, "0003")) for prefix in
                  (f"{tmp_path}/{name}/model/net" for name in ("whole", "cut")))  # fmt: skip
    np.testing.assert_array_equal(whole.params["fc1_weight"], cut.params["fc1_weight"])
    np.testing.assert_array_equal(whole.momentum["momentum:fc1_weight"], cut.momentum["momentum:fc1_weight"])
    assert entries.read(f"{tmp_path}/cut/model/net", "0003").settings["machine.engine"] == "toy"


def test_an_engine_is_told_the_threads_of_a_run_that_goes_on(digits, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ToyEngine, "prepare", lambda _, *told: asked.append(told) or ["There are few threads"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    more = ("--epochs", "1", "--lr", "0.05")
    train(parse(arguments(digits, tmp_path, *more)), ToyEngine())
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    train(parse(arguments(digits, tmp_path, "--resume", "--epochs", "2", "--deterministic")), ToyEngine())
    train(parse(arguments(digits, tmp_path, *more, "--model-prefix", f"{tmp_path}/other", "--resume")), ToyEngine())
    assert asked == [("device", None, None, False), ("device", None, 3, True), ("device", None, None, False)]
    log = (tmp_path / "log/net/train.log").read_text()
    assert log.count("There are few threads") == 2
    assert "Not to the bit the same run: machine threads was 3, is 5" in log
