"""A run that stops when its time is up, and goes on by the same command."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint, entries, ledger
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.loop import Loop
from mxnet_resnet.train.run import train
from mxnet_resnet.train.setup import planning
from tests.helpers import REPOSITORY
from tests.helpers.runs import arguments, assert_same_run, run
from tests.helpers.toy import Alone, ToyEngine

RUN = ("--epochs", "2", "--lr", "0.05")
MINUTES = ("--max-minutes", "60")


def stop_time(monkeypatch, method: str, epoch: int, batch: int = 0) -> None:
    """Let time be up when the loop comes to ``method`` there."""
    before = getattr(Loop, method)

    def late(loop, *given):
        if (loop.position.epoch, loop.position.batch) == (epoch, batch):
            loop.wish.deadline = 0
        return before(loop, *given)

    monkeypatch.setattr(Loop, method, late)


def train_toy(digits, folder, *more: str) -> None:
    train(parse(arguments(digits, folder, *more)), ToyEngine())


def weight(folder, epoch: int = 2) -> np.ndarray:
    return checkpoint.load_params(f"{folder}/model/net", epoch)[0]["fc1_weight"]


@pytest.mark.parametrize(
    "method, batch, where", [("_step", 4, "1 epochs and 5 batches"), ("_validate", 0, "1 epochs and 0")]
)
def test_the_same_command_goes_on(digits, tmp_path, monkeypatch, method, batch, where):
    """Within an epoch, and within a validation, which is left at once."""
    train_toy(digits, tmp_path / "whole", *RUN)
    with monkeypatch.context() as patch:
        stop_time(patch, method, 1, batch)
        told = f"Time is up after {where}.*: the same command goes on from there, or --resume --model-prefix .*/net$"
        with pytest.raises(Interrupted, match=told) as end:
            train_toy(digits, tmp_path / "cut", *RUN, *MINUTES)
    assert end.value.status == 0
    log = tmp_path / "cut/log/net/train.log"
    assert log.read_text().splitlines()[-1] == f"INFO:root:{end.value}"
    train_toy(digits, tmp_path / "cut", *RUN, *MINUTES)
    np.testing.assert_array_equal(weight(tmp_path / "cut"), weight(tmp_path / "whole"))
    settings = [entries.read_found(f"{tmp_path}/{name}/model/net", "0002").settings for name in ("cut", "whole")]
    assert settings[0] == settings[1]
    train_toy(digits, tmp_path / "cut", *RUN, *MINUTES)
    assert log.read_text().splitlines()[-1].startswith("INFO:root:Finished: top-1 error ")


def test_the_clock_starts_with_the_command_and_counts_for_nothing_else(digits, tmp_path):
    """Time that is up at once is enough for a step; --resume goes on without it."""
    with pytest.raises(Interrupted, match="after 0 epochs and 1 batches"):
        train_toy(digits, tmp_path, *RUN, "--max-minutes", "1e-9")
    train_toy(digits, tmp_path, "--resume")
    assert ledger.names(f"{tmp_path}/model/net") == ["0002", "0001"]


def test_minutes_are_minutes(digits, tmp_path):
    settings = parse(arguments(digits, tmp_path, *MINUTES))
    with planning([settings], ToyEngine()) as (_, wish):
        assert 3000 < wish.deadline - time.monotonic() <= 3600


def test_a_command_comes_further_however_short_its_time(digits, tmp_path):
    """A validation that was left is made whole by the next one: to begin it again each time would be no end."""
    one_step = (*RUN, "--batch-size", "360", "--data-train", f"{digits}/digits_val.rec")
    for place in ("0 epochs and 1 ", "1 epochs and 0 ", "1 epochs and 1 ", "2 epochs and 0 "):
        with pytest.raises(Interrupted, match=f"Time is up after {place}"):
            train_toy(digits, tmp_path, *one_step, "--max-minutes", "1e-9")
    train_toy(digits, tmp_path, *one_step, "--max-minutes", "1e-9")
    assert entries.read_found(f"{tmp_path}/model/net", "0002").validation.keys() == {"0", "1"}


def test_a_retrain_goes_on_where_it_is_the_latest_run_and_else_begins(digits, tmp_path, monkeypatch):
    retrain = (*RUN[2:], "--epochs", "4", "--retrain", "--model-load-epoch", "2")
    for name in ("whole", "cut"):
        train_toy(digits, tmp_path / name, *RUN)
    train_toy(digits, tmp_path / "whole", *retrain)
    with monkeypatch.context() as patch:
        stop_time(patch, "_step", 3, 2)
        with pytest.raises(Interrupted, match="after 3 epochs and 3 batches"):
            train_toy(digits, tmp_path / "cut", *retrain, *MINUTES)
    train_toy(digits, tmp_path / "cut", *retrain, *MINUTES)
    log = (tmp_path / "cut/log/net/train.log").read_text()
    assert log.count("net-0002.params, after 2 epochs") == log.count("after 3 epochs and 3 batches, ") == 1
    np.testing.assert_array_equal(weight(tmp_path / "cut", 4), weight(tmp_path / "whole", 4))
    train_toy(digits, tmp_path / "cut", *retrain, *MINUTES, "--wd", "0.001")  # another one
    assert (tmp_path / "cut/log/net/train.log").read_text().count("net-0002.params, after 2 epochs") == 2


@pytest.mark.parametrize("batch", [4, 11])
def test_the_figures_of_an_epoch_add_up_over_a_stop(digits, tmp_path, monkeypatch, batch):
    """Also where nothing but its end is left: seconds, images and the wait for data."""
    with monkeypatch.context() as patch:
        stop_time(patch, "_step", 1, batch)
        with pytest.raises(Interrupted):
            train_toy(digits, tmp_path, *RUN, *MINUTES)
    entry = entries.read_found(f"{tmp_path}/model/net", f"0001-{batch + 1:05d}")
    spent = entry.meters["spent"]
    assert spent["batches"] == batch + 1 and spent["seconds"] > spent["wait"] > 0
    entry.meters["spent"].update(seconds=100.0, wait=40.0)
    entries.write_entry(entries.file(f"{tmp_path}/model/net", entry.name, "json"), entry)
    train_toy(digits, tmp_path, *RUN, *MINUTES)
    lines = map(json.loads, (tmp_path / "log/net/metrics.jsonl").read_text().splitlines())
    (noted,) = [line for line in lines if (line["epoch"], line["phase"]) == (1, "train")]
    epoch = logreader.read(tmp_path / "log/net/train.log").epochs[1]
    assert noted["images"] == 360
    assert 100 < noted["seconds"] == pytest.approx(epoch.seconds, abs=1e-3)
    assert 40 < noted["data_wait"] == pytest.approx(epoch.wait, abs=1e-3)
    assert noted["images_per_second"] == pytest.approx(360 / noted["seconds"], abs=1e-3)


def test_the_end_names_the_file_of_the_best_epoch(digits, tmp_path):
    train_toy(digits, tmp_path, *RUN)
    errors = entries.read_found(f"{tmp_path}/model/net", "0002").errors
    best = min(errors, key=errors.get)
    last = (tmp_path / "log/net/train.log").read_text().splitlines()[-2]
    assert last.endswith(f"(best {errors[best]:.2f}%, Epoch[{best}]: {tmp_path}/model/net-{best + 1:04d}.params)")


class Pair(Alone):
    """One of two workers, of which the other one's signal comes first."""

    alone = False

    def __init__(self, others_signal):
        self.others_signal = others_signal

    def should_stop(self, told):
        return told or self.others_signal

    def add_up(self, values):
        return [value + self.others_signal for value in values] if len(values) == 1 else list(values)


@pytest.mark.parametrize("others_signal, status, told", [(1, 143, "Stopped by SIGTERM"), (0, 0, "Time is up")])
def test_workers_end_with_the_same_word(digits, tmp_path, monkeypatch, others_signal, status, told):
    monkeypatch.setattr("tests.helpers.toy.Alone", lambda: Pair(others_signal))
    with pytest.raises(Interrupted, match=told) as end:
        train_toy(digits, tmp_path, *RUN, "--max-minutes", "1e-9")
    assert end.value.status == status


def test_the_command_ends_well_with_a_line_of_what_goes_on(digits, tmp_path):
    command = [sys.executable, REPOSITORY / "train_resnet.py", *arguments(digits, tmp_path, "--epochs", "2")]
    done = subprocess.run([*command, "--max-minutes", "1e-9"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Time is up after 0 epochs and 1 batches: the same command goes on from there")
    run(digits, tmp_path / "whole", "--epochs", "2")
    run(digits, tmp_path, "--epochs", "2", *MINUTES)
    assert_same_run(tmp_path, tmp_path / "whole", "0002")
