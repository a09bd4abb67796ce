"""A run that was stopped ends as the one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.mxnet import devices
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import entries, ledger
from mxnet_resnet.train.loop import Loop
from tests.helpers import REPOSITORY
from tests.helpers.runs import arguments, assert_same_run, copy, figures, run, stop

SCHEDULES = {
    "steps": "--lr-steps 1,3",
    "iterations": "--lr-iterations 15,30 --lr-factor 0.2 --warmup-steps 5",
    "cosine": "--lr-schedule cosine --warmup-steps 15 --warmup-mode linear --optimizer sgd",
}
EPOCHS = ("--epochs", "4", "--aug-level", "2")


@pytest.fixture(scope="module", params=SCHEDULES)
def undisturbed(request, digits, tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a run that was never stopped, and its arguments."""
    folder = tmp_path_factory.mktemp("undisturbed")
    more = [*EPOCHS, *SCHEDULES[request.param].split()]
    run(digits, folder, *more)
    return folder, more


def test_a_run_that_stops_after_two_epochs_is_the_run_that_does_not(undisturbed, digits, tmp_path, monkeypatch):
    folder, more = undisturbed
    stop(monkeypatch, "_validate", epoch=2)
    with pytest.raises(Interrupted, match="Stopped by SIGTERM after 2 epochs and 0 batches"):
        run(digits, tmp_path, *more)
    run(digits, tmp_path, "--resume")  # what else was given is remembered
    assert_same_run(tmp_path, folder)
    assert figures(tmp_path) == figures(folder)


def test_a_run_that_stops_within_an_epoch_is_the_run_that_does_not(undisturbed, digits, tmp_path, monkeypatch):
    folder, more = undisturbed
    stop(monkeypatch, "_step", epoch=1, batch=6)
    with pytest.raises(Interrupted, match="Stopped by SIGTERM after 1 epochs and 7 batches"):
        run(digits, tmp_path, *more)
    assert ledger.names(f"{tmp_path}/model/net")[0] == "0001-00007"
    run(digits, tmp_path, "--resume")
    assert_same_run(tmp_path, folder)
    assert figures(tmp_path) == figures(folder)
    assert not list(tmp_path.glob("model/*-0001-*"))


@pytest.mark.parametrize("more", ["--network preact_wide_resnet16_8 --width 1", "--mixup 0.4 --label-smoothing 0.1"])
def test_what_is_drawn_at_random_goes_on_too(digits, tmp_path, monkeypatch, more):
    """The masks of dropout, and the shares of mixup."""
    given = ["--epochs", "2", *more.split()]
    run(digits, tmp_path / "whole", *given)
    stop(monkeypatch, "_step", epoch=1, batch=3, number=signal.SIGINT)
    with pytest.raises(Interrupted) as interrupted:
        run(digits, tmp_path / "cut", *given)
    assert interrupted.value.status == 130
    run(digits, tmp_path / "cut", "--resume", *more.split())
    assert_same_run(tmp_path / "cut", tmp_path / "whole", "0002")
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")


def test_more_epochs_than_planned(three_epochs, digits, tmp_path):
    run(digits, tmp_path / "whole", "--epochs", "4")
    run(digits, copy(three_epochs, tmp_path / "more"), "--epochs", "4", "--resume")
    assert_same_run(tmp_path / "more", tmp_path / "whole")


@pytest.mark.parametrize(
    "more, message",
    [
        ("--depth 14", "depth was 8, is 14"),
        ("--num-classes 12", "classes was 10, is 12"),
        ("--data-train {digits}/digits_train.rec", r"training records was 360 images .*, is 1437 images"),
        ("--lr 0.2 --batch-size 60", "batch size was 30, is 60; .*learning rate lr was 0.1, is 0.2"),
    ],
)
def test_another_run_is_not_resumed(three_epochs, digits, tmp_path, more, message):
    folder = copy(three_epochs, tmp_path / "run")
    with pytest.raises(UserError, match=f"cannot be resumed with other values.*{message}"):
        run(digits, folder, "--epochs", "4", "--resume", *more.format(digits=digits).split())


@pytest.mark.mxnet  # a process a device is tested in tests/engines/torch/test_jobs.py
def test_another_number_of_devices_is_noted(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    for epochs in ("4", "5"):
        run(digits, folder, "--epochs", epochs, "--resume", "--cpus", "2")
    assert (folder / "log/net/train.log").read_text().count("machine devices was 1, is 2") == 1


def test_resume_starts_a_run_that_was_killed_before_its_first_checkpoint(digits, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    ledger.begin(f"{tmp_path}/model/net", entries.Entry("ours", arguments={"epochs": "3"}), anew=True)
    monkeypatch.setattr(Loop, "_train_epoch", lambda loop: sys.exit(loop.position.epoch))
    with pytest.raises(SystemExit) as ended:
        run(digits, tmp_path, "--resume")
    assert ended.value.code == 0
    assert "There is no checkpoint" in (tmp_path / "log/net/train.log").read_text()


def test_checkpoints_of_another_run_are_never_begun_over_by_resume(three_epochs, digits, tmp_path):
    """A run was killed before its first checkpoint, where those of an earlier run are."""
    folder = copy(three_epochs, tmp_path / "run")
    ledger.begin(f"{folder}/model/net", entries.Entry("another", arguments={"epochs": "3"}), anew=True)
    before = {path: path.read_bytes() for path in (folder / "model").iterdir()}
    with pytest.raises(UserError, match="there are the checkpoints 0001 to 0003 of another: without --resume"):
        run(digits, folder, "--resume")
    assert {path: path.read_bytes() for path in (folder / "model").iterdir()} == before
    (folder / "model/net-latest.json").unlink()
    run(digits, folder, "--resume")
    assert "after 3 epochs" in (folder / "log/net/train.log").read_text()


@pytest.mark.parametrize("kind", ["run", "checkpoint", "digest"])
def test_a_flipped_bit_in_the_pointer_loses_no_run(three_epochs, digits, tmp_path, kind):
    folder = copy(three_epochs, tmp_path / "run")
    pointer = folder / "model/net-latest.json"
    content = json.loads(pointer.read_text())
    content[kind] = chr(ord(content[kind][0]) ^ 1) + content[kind][1:]
    pointer.write_text(json.dumps(content))
    run(digits, folder, "--resume")
    assert "after 3 epochs" in (folder / "log/net/train.log").read_text()


def test_a_retrain_that_was_killed_in_set_up_is_not_the_run_before(three_epochs, digits, tmp_path, monkeypatch):
    folder = copy(three_epochs, tmp_path / "run")
    monkeypatch.setattr("mxnet_resnet.train.run.start", lambda plan: sys.exit(9))
    with pytest.raises(SystemExit):
        run(digits, folder, "--retrain", "--model-load-epoch", "2", "--lr", "0.03", "--epochs", "4")
    monkeypatch.undo()
    monkeypatch.setattr(Loop, "_train_epoch", lambda loop: sys.exit(loop.position.epoch))
    with pytest.raises(SystemExit) as ended:
        run(digits, folder, "--resume")
    assert ended.value.code == 2
    assert "learning rate lr was 0.1, is 0.03" in (folder / "log/net/train.log").read_text()


def test_flags_given_to_a_resumed_run_are_those_of_the_run(three_epochs, digits, tmp_path, monkeypatch):
    """Even if it is killed before its next checkpoint."""
    folder = copy(three_epochs, tmp_path / "run")
    monkeypatch.setattr(Loop, "_save", lambda loop: pytest.fail("nothing was to be saved"))
    monkeypatch.setattr(Loop, "_train_epoch", lambda loop: sys.exit(9))
    with pytest.raises(SystemExit):
        run(digits, folder, "--epochs", "5", "--resume")
    assert ledger.arguments(f"{folder}/model/net")["epochs"] == "5"


@pytest.mark.mxnet  # a process a device is tested in tests/engines/torch/test_jobs.py
def test_the_validation_of_several_devices_is_that_of_the_checkpoint(digits, tmp_path, monkeypatch, command, capsys):
    more = ("--cpus", "2", "--epochs", "1")
    run(digits, tmp_path, *more)
    asked, choose = [], devices.choose
    monkeypatch.setattr(devices, "choose", lambda *given: asked.append(given) or choose(*given))
    logged = logreader.read(tmp_path / "log/net/train.log").epochs[0].validation["top1"]
    status, out, _ = command(capsys, "train_resnet.py", *arguments(digits, tmp_path, *more, "--eval-only"))
    assert status == 0 and out.startswith(f"top-1 error {logged:.2f}%")
    assert asked == [(None, 2)]


def test_a_validation_that_overflows_is_told(three_epochs, digits, tmp_path):
    symbol, args, auxs = mx.model.load_checkpoint(str(three_epochs / "model/net"), 3)
    auxs["bn1_moving_mean"][:] = -3e38
    mx.model.save_checkpoint(str(tmp_path / "theirs"), 0, symbol, args, auxs)
    theirs = ("--retrain", "--load-params", f"{tmp_path}/theirs-0000.params", "--bn-mom", "1", "--epochs", "1")
    for more in (theirs, ("--resume",)):
        with pytest.raises(UserError, match=r"the validation loss of Epoch\[0\], checkpoint 0001, is nan"):
            run(digits, tmp_path, *more)


def process(given: list[str]) -> subprocess.Popen:
    """The command on all cores, however few the tests run on."""
    command = [sys.executable, REPOSITORY / "train_resnet.py", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores())}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_after_the_batch(digits, tmp_path, number, status):
    many = ("--data-train", f"{digits}/digits_train.rec")  # batches: the signal comes within an epoch
    running = process(arguments(digits, tmp_path, "--epochs", "1000", "--keep", "1", *many))
    try:
        for line in running.stderr:
            if "Epoch[1] Batch" in line:
                running.send_signal(number)
                break
        rest = running.stderr.read()
        assert running.wait(timeout=60) == status
    finally:
        running.kill()
    assert f"Stopped by {signal.Signals(number).name}" in rest.splitlines()[-1]
    assert "Traceback" not in rest
    entry = entries.read(f"{tmp_path}/model/net", ledger.names(f"{tmp_path}/model/net")[0])
    entries.verify(f"{tmp_path}/model/net", entry)
    assert entry.batch > 0


@pytest.mark.slow
def test_killed_at_fifty_moments_a_run_ends_as_if_it_never_was(digits, tmp_path):
    """Most of them while it trains, saves or validates, some while it starts."""
    more = ("--epochs", "150", "--keep", "3", "--save-batches", "5", "--aug-level", "2")
    process(arguments(digits, tmp_path / "whole", *more)).communicate()
    folder, rng = tmp_path / "killed", np.random.default_rng(0)
    prefix = f"{folder}/model/net"
    for kill in range(50):
        running = process(arguments(digits, folder, *more, "--resume"))
        if kill % 5:
            next((line for line in running.stderr if "Epoch[" in line), None)
        time.sleep(rng.uniform(0, 1.5))
        assert running.poll() is None, running.stderr.read()
        running.kill()
        running.communicate()
        for name in ledger.names(prefix):
            entries.verify(prefix, entries.read(prefix, name))
    process(arguments(digits, folder, *more, "--resume")).communicate()
    assert_same_run(folder, tmp_path / "whole", "0150")
    assert not [path.name for path in folder.glob("model/.*")]
