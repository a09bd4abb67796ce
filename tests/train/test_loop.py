"""The loop and its engine: when figures are read, and whose batches are trained on."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.meters import Figures
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.loop import Loop
from mxnet_resnet.train.run import train
from tests.helpers.runs import arguments
from tests.helpers.toy import Known, ToyEngine, ToySession

RUN = ("--epochs", "2", "--lr", "0.05")


class Watched:
    """Figures that note when they are read."""

    updated = True

    def __init__(self, figures, number, read):
        self.figures, self.number, self.read = figures, number, read

    def result(self):
        self.read.append(self.number)
        return self.figures


def test_figures_are_read_no_sooner_than_need_be(digits, tmp_path, monkeypatch):
    """Before a line of the log and at the end of an epoch, or when as many wait as the session allows."""
    read, at = [], {}
    compute, in_flight = ToySession.compute, 4

    def watched(session, batch, number):
        at[number] = len(read)
        return Watched(compute(session, batch, number).figures, number, read)

    monkeypatch.setattr(ToySession, "compute", watched)
    monkeypatch.setattr(ToySession, "in_flight", in_flight)
    train(parse([*arguments(digits, tmp_path, *RUN), "--frequent", "9"]), ToyEngine())
    # Batches 0 to 11; the line is that of batch 9, and reads all.
    assert [at[number] for number in range(12)] == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 10, 10]
    assert read == list(range(24)) and at[12] == 12


def test_however_many_wait_the_step_that_diverged_is_told(digits, tmp_path, monkeypatch):
    compute = ToySession.compute
    monkeypatch.setattr(ToySession, "in_flight", 100)

    def overflow(session, batch, number):
        figures = compute(session, batch, number)
        return figures if number != 13 else Known(Figures(30, 0, None, np.nan))

    monkeypatch.setattr(ToySession, "compute", overflow)
    with pytest.raises(UserError, match=r"the loss is nan at step 14 \(Epoch\[1\], batch 1\): .* is .*net-0001"):
        train(parse(arguments(digits, tmp_path, *RUN)), ToyEngine())


@pytest.fixture
def resident(monkeypatch):
    """Sessions that have the data set: what they were asked for."""
    asked = []

    def read(session, records, epoch, skip):
        asked.append((epoch, skip))
        return records.epoch(epoch, skip)

    def read_validation(session, records):
        asked.append("validation")
        return records.read()

    monkeypatch.setattr(ToySession, "read", read)
    monkeypatch.setattr(ToySession, "read_validation", read_validation)
    return asked


def test_batches_of_the_session_are_trained_on(digits, tmp_path, resident, monkeypatch):
    train(parse(arguments(digits, tmp_path / "resident", *RUN)), ToyEngine())
    assert resident == [(0, 0), "validation", (1, 0), "validation"]
    monkeypatch.undo()
    train(parse(arguments(digits, tmp_path / "read", *RUN)), ToyEngine())
    found, expected = (
        checkpoint.load_params(f"{tmp_path}/{name}/model/net", 2)[0]["fc1_weight"] for name in ("resident", "read")
    )
    np.testing.assert_array_equal(found, expected)


def test_a_session_is_not_asked_for_images_that_are_mixed(digits, tmp_path, resident):
    train(parse(arguments(digits, tmp_path, *RUN, "--mixup", "0.3")), ToyEngine())
    assert resident == []


def test_time_between_steps_is_no_wait_for_data(digits, tmp_path, monkeypatch):
    def run_slowly(loop):
        for _ in loop.steps():
            time.sleep(0.02)

    monkeypatch.setattr(Loop, "run", run_slowly)
    train(parse(arguments(digits, tmp_path, "--epochs", "1")), ToyEngine())
    epoch = logreader.read(tmp_path / "log/net/train.log").epochs[0]
    assert epoch.seconds > 12 * 0.02 > 0.1 + epoch.wait
