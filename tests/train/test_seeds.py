"""Several seeds of one run are the runs that each is alone, at once or one after the other."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from mxnet_resnet import engines
from mxnet_resnet.base import files
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.runs import checkpoint, entries, ledger
from mxnet_resnet.runs.meters import Figures
from mxnet_resnet.settings.run import parse, parse_runs
from mxnet_resnet.train.loop import Loop
from mxnet_resnet.train.run import train
from mxnet_resnet.train.seeds import train_seeds
from tests.helpers.runs import arguments
from tests.helpers.toy import Known, ToyEngine, ToySession

ONCE_AND_IN_TURN = pytest.mark.parametrize("together", [True, False])
TIMES = r"Speed: \S+|(Time cost|Data wait)=\S+"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Runs lie in the folder of the test, by the same names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(digits, *more: object) -> list[str]:
    flags = f"--data-type digits --depth 8 --gpus none --data-dir {digits} --data-train {digits}/digits_val.rec"
    small = "--batch-size 30 --frequent 5 --lr 0.05 --aug-level 2 --epochs 2 --model-prefix model/net"
    return [*flags.split(), *small.split(), *map(str, more)]


def train_several(digits, together: bool, *more: object) -> ToyEngine:
    engine = ToyEngine(together)
    train_seeds(parse_runs(given(digits, *more)), engine)
    return engine


def train_alone(digits, seed: int, *more: object) -> None:
    flags = [word if word != "model/net" else f"model/net-seed{seed}" for word in given(digits, *more)]
    train(parse([*flags, "--seed", str(seed)]), ToyEngine())


def read_run(folder: Path, seed: int) -> dict[str, object]:
    """All that a run leaves, without its identity and its times."""
    prefix = f"{folder}/model/net-seed{seed}"
    found: dict[str, object] = {}
    for name in ledger.names(prefix):
        entry = vars(entries.read_found(prefix, name))
        found[name] = {**entry, "run": None, "digests": {**entry["digests"], "entry": None}}
        for suffix in entries.ARRAYS:
            found[f"{name}.{suffix}"] = entries.file(prefix, name, suffix).read_bytes()
    log = folder / f"log/net-seed{seed}"
    found["log"] = re.sub(TIMES, "", (log / "train.log").read_text())
    lines = map(json.loads, (log / "metrics.jsonl").read_text().splitlines())
    found["metrics"] = [(line["epoch"], line["phase"], line["metrics"]) for line in lines]
    assert (log / "report.html").is_file()
    return found


@pytest.fixture(scope="module")
def alone(digits, tmp_path_factory) -> Path:
    """The folder of the seeds 1, 2 and 3, each by itself."""
    folder, before = tmp_path_factory.mktemp("alone"), Path.cwd()
    os.chdir(folder)
    try:
        for seed in (1, 2, 3):
            train_alone(digits, seed)
    finally:
        os.chdir(before)
    return folder


def weights(folder: Path, seed: int, epoch: int = 2) -> np.ndarray:
    return checkpoint.load_params(f"{folder}/model/net-seed{seed}", epoch)[0]["fc1_weight"]


@ONCE_AND_IN_TURN
def test_each_is_the_run_alone_to_the_byte(digits, folder, alone, together, capsys):
    engine = train_several(digits, together, "--seeds", "1,2,3")
    assert engine.launches == (24 if together else 0)
    for seed in (1, 2, 3):
        found, expected = read_run(folder, seed), read_run(alone, seed)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name] == expected[name], name
    assert not np.array_equal(weights(folder, 1), weights(folder, 2))
    out, err = capsys.readouterr()
    assert re.search(r"^\| net \| 3 \| 2 \| 30,720 \| \d+\.\d\d ± \d", out, re.MULTILINE)
    assert (folder / "log/net-seeds.png").read_bytes().startswith(b"\x89PNG")
    assert ("[seed 2] INFO:root:Epoch[1] Validation-accuracy=" in err) == together
    assert not list(folder.glob("model/*-lock"))


@ONCE_AND_IN_TURN
def test_one_that_fails_does_not_stop_the_others(digits, folder, alone, together, monkeypatch, capsys):
    compute = ToySession.compute

    def overflow(session, batch, number):
        figures = compute(session, batch, number)
        return figures if (session.spec.seed, number) != (2, 14) else Known(Figures(30, 0, None, np.nan))

    monkeypatch.setattr(ToySession, "compute", overflow)
    with pytest.raises(UserError, match=r"^1 of 3 seeds failed: 2; why is told above$"):
        train_several(digits, together, "--seeds", "1,2,3")
    for seed in (1, 3):
        np.testing.assert_array_equal(weights(folder, seed), weights(alone, seed))
    told = r"the loss is nan at step 15 \(Epoch\[1\], batch 2\): the last good checkpoint is model/net-seed2-0001"
    assert re.search(f"ERROR:root:{told}", (folder / "log/net-seed2/train.log").read_text().splitlines()[-1])
    assert "ERROR" not in (folder / "log/net-seed1/train.log").read_text()
    out, err = capsys.readouterr()
    assert re.search(f"seed 2 failed: {told}", err) and "| net | 2 | 2 |" in out


def stop_at(monkeypatch, act, seed: int, epoch: int, batch: int) -> None:
    """Do something when a run comes to a step."""
    step = Loop._step

    def stopped(loop, *arguments):
        if (loop.settings.seed, loop.position.epoch, loop.position.batch) == (seed, epoch, batch):
            act(loop)
        return step(loop, *arguments)

    monkeypatch.setattr(Loop, "_step", stopped)


@pytest.mark.parametrize("together, began", [(True, (1, 2, 3)), (False, (1, 2))])
def test_a_signal_stops_all_and_each_goes_on_alone_or_together(digits, folder, alone, together, began, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, lambda loop: os.kill(os.getpid(), signal.SIGTERM), seed=2, epoch=1, batch=3)
        left = "1, 2, 3" if together else "2, 3"
        with pytest.raises(Interrupted, match=f"Stopped by SIGTERM: .* --resume goes on with the seeds? {left}") as end:
            train_several(digits, together, "--seeds", "1,2,3")
    assert end.value.status == 143
    newest = [(ledger.names(f"model/net-seed{seed}") or [None])[0] for seed in (1, 2, 3)]
    assert newest == (["0001-00004", "0001-00004", "0001-00003"] if together else ["0002", "0001-00004", None])
    train(parse(["--resume", "--model-prefix", "model/net-seed2"]), ToyEngine())
    np.testing.assert_array_equal(weights(folder, 2), weights(alone, 2))
    train_several(digits, not together, "--seeds", "1,2,3", "--resume")  # one of them has finished
    for seed in (1, 2, 3):
        np.testing.assert_array_equal(weights(folder, seed), weights(alone, seed))
        log = (folder / f"log/net-seed{seed}/train.log").read_text()
        assert "Finished: top-1 error" in log.splitlines()[-2] + log.splitlines()[-1]


@ONCE_AND_IN_TURN
def test_one_that_failed_is_named_where_the_others_are_stopped(digits, folder, together, monkeypatch):
    def fail(loop):
        raise UserError("no luck")

    stop_at(monkeypatch, fail, seed=1, epoch=0, batch=3)
    stop_at(monkeypatch, lambda loop: os.kill(os.getpid(), signal.SIGTERM), seed=2, epoch=1, batch=3)
    with pytest.raises(Interrupted, match=r"goes on with the seeds 2, 3; failed: 1$"):
        train_several(digits, together, "--seeds", "1,2,3")


@ONCE_AND_IN_TURN
def test_the_clock_stops_all_and_the_same_command_goes_on(digits, folder, alone, together, monkeypatch, capsys):
    def let_time_pass(loop):
        loop.wish.deadline = 0

    more = ("--seeds", "1,2,3", "--max-minutes", "60")
    with monkeypatch.context() as patch:
        stop_at(patch, let_time_pass, seed=1, epoch=1, batch=6)
        left = "1, 2, 3"
        with pytest.raises(Interrupted, match=f"Time is up: the same command goes on with the seeds? {left}") as end:
            train_several(digits, together, *more)
    assert end.value.status == 0
    assert "| net |" not in capsys.readouterr().out
    train_several(digits, together, *more)
    for seed in (1, 2, 3):
        np.testing.assert_array_equal(weights(folder, seed), weights(alone, seed))
    entry = entries.read_found("model/net-seed1", "0002")
    assert entry.arguments["seed"] == "1" and not {"seeds", "max-minutes"} & entry.arguments.keys()
    before = [Path(f"model/net-seed{seed}-0002.json").read_text() for seed in (1, 2, 3)]
    train_several(digits, together, *more)  # all of them have finished
    assert "| net | 3 | 2 |" in capsys.readouterr().out
    assert before == [Path(f"model/net-seed{seed}-0002.json").read_text() for seed in (1, 2, 3)]


def test_too_little_memory_is_told_before_anything_is_written(digits, folder):
    class Small(ToyEngine):
        def unite(self, sessions):
            raise UserError("the GPU has memory for 1 seed, and not for 2: give --seeds 1")

    with pytest.raises(UserError, match="memory for 1 seed"):
        train_seeds(parse_runs(given(digits, "--seeds", "1,2")), Small(together=True))
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_what_all_runs_compute_together_is_told_in_each_log(digits, folder):
    """A failure of it too."""

    class Talkative(ToyEngine):
        def unite(self, sessions):
            logging.info("Compiling")
            launch = super().unite(sessions)

            def tell_and_launch():
                if self.launches == 2:
                    raise UserError("the GPU fell off the bus")
                logging.info("Launching")
                launch()

            return tell_and_launch

    with pytest.raises(UserError, match="fell off"):
        train_seeds(parse_runs(given(digits, "--seeds", "1,2")), Talkative(together=True))
    for seed in (1, 2):
        log = (folder / f"log/net-seed{seed}/train.log").read_text().splitlines()
        assert [log.count(f"INFO:root:{word}") for word in ("Compiling", "Launching")] == [1, 2]
        assert log[-1] == "ERROR:root:the GPU fell off the bus"
        assert log.index("INFO:root:Compiling") > log.index("INFO:root:30720 parameters")


def test_a_prefix_that_another_run_has_is_told(digits, folder):
    with (
        files.locked(folder / "model/net-seed2-lock"),
        pytest.raises(UserError, match="another run has model/net-seed"),
    ):
        train_several(digits, True, "--seeds", "1,2")
    assert not (folder / "log").exists()


def test_a_single_seed_has_its_table_and_no_band(digits, folder, alone, capsys):
    train_several(digits, True, "--seeds", "3")
    np.testing.assert_array_equal(weights(folder, 3), weights(alone, 3))
    assert "| net | 1 | 2 |" in capsys.readouterr().out


def test_each_retrains_its_own(digits, folder, alone):
    shutil.copytree(alone / "model", folder / "model")
    train_several(digits, True, "--seeds", "1,2", "--retrain", "--model-load-epoch", "1")
    for seed in (1, 2):
        np.testing.assert_array_equal(weights(folder, seed), weights(alone, seed))
        assert ledger.names(f"model/net-seed{seed}") == ["0002"]


def test_seeds_are_trained_where_nothing_draws(digits, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("mxnet_resnet.train.run.report.attempt", lambda *_: None)
    train_several(digits, True, "--seeds", "1,2")
    out, err = capsys.readouterr()
    assert "| net | 2 | 2 |" in out and "There are no curves of the seeds: " in err
    assert not (folder / "log/net-seeds.png").exists()


def test_a_framework_trains_each_as_alone(digits, folder):
    """The second one too, after what the first has left in it."""
    flags = [*arguments(digits, folder, "--epochs", "1", "--network", "preact_wide_resnet16_8", "--width", "1")]
    flags += ["--drop-rate", "0.2"]
    runs = parse_runs([*flags, "--seeds", "1,2"])
    train_seeds(runs, engines.choose(runs[0].devices.engine))
    run_of_2 = parse([*flags, "--seed", "2", "--model-prefix", f"{folder}/alone/net-seed2", "--log-dir", "alone/log"])
    train(run_of_2, engines.choose(run_of_2.devices.engine))
    for suffix in ("params", "state"):
        found = [Path(f"{name}/net-seed2-0001.{suffix}").read_bytes() for name in ("model", "alone")]
        assert found[0] == found[1]


@pytest.mark.mxnet  # PyTorch has a process a device
def test_devices_that_share_gradients_train_one_seed_after_the_other(digits, folder, capsys):
    runs = parse_runs(arguments(digits, folder, "--epochs", "1", "--cpus", "2", "--seeds", "1,2"))
    train_seeds(runs, engines.choose("mxnet"))
    assert "| net | 2 | 1 |" in capsys.readouterr().out
