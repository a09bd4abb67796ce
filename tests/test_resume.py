import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from conftest import REPOSITORY, train_arguments

from mxnet_resnet import checkpoint, evaluation, files, ledger, logbook, options, schedule, trainer
from mxnet_resnet.errors import UserError
from mxnet_resnet.interruption import Interrupted
from mxnet_resnet.loop import Loop


def arguments(digits, folder, *more: str) -> list[str]:
    """Arguments for epochs of twelve batches."""
    small = ("--data-train", f"{digits}/digits_val.rec", "--batch-size", "30", "--frequent", "5")
    return train_arguments(digits, folder, *small, *more)


def run(digits, folder, *more: str) -> None:
    trainer.train(options.parse(arguments(digits, folder, *more)))


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory) -> Path:
    """The folder of a run of three epochs."""
    folder = tmp_path_factory.mktemp("trained")
    run(digits, folder, "--epochs", "3")
    return folder


def stop(monkeypatch, method: str, epoch: int, batch: int = 0, number: int = signal.SIGTERM) -> None:
    """Send this process a signal when the loop comes to ``method`` there."""
    before = getattr(Loop, method)

    def stopped(loop, *arguments):
        if (loop.position.epoch, loop.position.batch) == (epoch, batch):
            os.kill(os.getpid(), number)
            monkeypatch.undo()
        before(loop, *arguments)

    monkeypatch.setattr(Loop, method, stopped)


def figures(folder) -> list[str]:
    """The lines of the log that tell metrics and learning rates, without the speed."""
    lines = (folder / "log/net/train.log").read_text().splitlines()
    kept = (re.sub(r"Speed: \S+ samples/sec", "", line) for line in lines)
    return [line for line in kept if re.search(r"Epoch\[\d+\].*(accuracy|cross-entropy|Learning rate)", line)]


def assert_same_run(folder, other, name="0004") -> None:
    """Two runs ended with the same parameters, running statistics and momentum, to the bit."""
    for suffix in ("params", "state"):
        found, expected = (
            checkpoint.load_arrays(ledger.file(f"{path}/model/net", name, suffix)) for path in (folder, other)
        )
        assert found.keys() == expected.keys()
        assert len(found) > 20
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key].asnumpy(), array.asnumpy(), err_msg=key)


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


def copy(folder, target) -> Path:
    """A run that may be gone on with, ``trained`` stays as it is."""
    shutil.copytree(folder, target)
    return target


def test_more_epochs_than_planned(trained, digits, tmp_path):
    run(digits, tmp_path / "whole", "--epochs", "4")
    run(digits, copy(trained, tmp_path / "more"), "--epochs", "4", "--resume")
    assert_same_run(tmp_path / "more", tmp_path / "whole")


def test_a_checkpoint_tells_all_that_it_is(trained):
    prefix = f"{trained}/model/net"
    entry = ledger.read(prefix, "0003")
    assert (entry.epoch, entry.batch, entry.step) == (3, 0, 3 * 12)
    assert entry.arguments["epochs"] == "3"
    assert entry.settings["training records"].startswith("360 images")
    assert list(entry.validation) == ["0", "1", "2"]
    best = min(entry.errors, key=entry.errors.get)
    assert ledger.best(prefix) == f"{best + 1:04d}"
    assert json.loads(Path(f"{prefix}-latest.json").read_text())["checkpoint"] == "0003"
    momentum = checkpoint.load_state(prefix, "0003")
    args, _ = checkpoint.load_params(prefix, 3)
    assert momentum.keys() == {f"momentum:{name}" for name in args}
    ledger.check(prefix, entry)


@pytest.mark.parametrize(
    "more, message",
    [
        ("--depth 14", "network was ResNet-v2 of depth 8, is ResNet-v2 of depth 14"),
        ("--num-classes 12", "classes was 10, is 12"),
        ("--data-train {digits}/digits_train.rec", r"training records was 360 images .*, is 1437 images"),
        ("--lr 0.2 --batch-size 60", "batch size was 30, is 60; .*learning rate lr was 0.1, is 0.2"),
    ],
)
def test_another_run_is_not_resumed(trained, digits, tmp_path, more, message):
    folder = copy(trained, tmp_path / "run")
    with pytest.raises(UserError, match=f"cannot be resumed with other values.*{message}"):
        run(digits, folder, "--epochs", "4", "--resume", *more.format(digits=digits).split())


def test_another_number_of_devices_is_noted(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    run(digits, folder, "--epochs", "4", "--resume", "--cpus", "2")
    assert "machine devices was 1, is 2" in (folder / "log/net/train.log").read_text()


@pytest.mark.parametrize("suffix", ["params", "state", "json"])
def test_a_damaged_checkpoint_is_passed_over(trained, digits, tmp_path, suffix):
    folder = copy(trained, tmp_path / "run")
    path = ledger.file(f"{folder}/model/net", "0003", suffix)
    path.write_bytes(path.read_bytes()[:-100])
    run(digits, folder, "--resume")
    log = (folder / "log/net/train.log").read_text()
    assert re.search(rf"Checkpoint 0003 is passed over: \S+net-0003.{suffix} is damaged", log)
    assert "after 2 epochs" in log
    assert_same_run(folder, trained, "0003")


def test_without_a_whole_checkpoint_there_is_nothing_to_resume(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    for path in folder.glob("model/*.params"):
        path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint of .* is whole: .*net-0003.params is missing"):
        run(digits, folder, "--resume")


def test_resume_starts_a_run_that_was_killed_before_its_first_checkpoint(trained, digits, tmp_path):
    """Not the earlier run of that name, whose checkpoints are still there."""
    folder = copy(trained, tmp_path / "run")
    entry = ledger.Entry("another", arguments={"epochs": "1", "seed": "5"})
    ledger.begin(f"{folder}/model/net", entry, anew=True)
    run(digits, folder, "--resume")
    log = (folder / "log/net/train.log").read_text()
    assert "There is no checkpoint" in log
    assert "seed=5" in log
    assert [ledger.read(f"{folder}/model/net", name).epoch for name in ledger.names(f"{folder}/model/net")] == [1]


def test_retrain_keeps_the_momentum_and_tells_what_changed(trained, digits, tmp_path):
    """From epoch 2 with nothing changed is the run itself; with other values, or without momentum, it is not."""
    retrain = ("--retrain", "--model-load-epoch", "2", "--epochs", "3")
    same = copy(trained, tmp_path / "same")
    run(digits, same, *retrain)
    assert_same_run(same, trained, "0003")
    assert "Starting from epoch 2. Changed: nothing" in (same / "log/net/train.log").read_text()
    for name, more in (("reset", ["--reset-optimizer"]), ("other", ["--lr", "0.05", "--wd", "0.001"])):
        folder = copy(trained, tmp_path / name)
        run(digits, folder, *retrain, *more)
        with pytest.raises(AssertionError):
            assert_same_run(folder, trained, "0003")
    log = (folder / "log/net/train.log").read_text()
    assert "Changed: weight decay was 0.0001, is 0.001; learning rate lr was 0.1, is 0.05" in log


def test_a_retrain_that_stopped_is_resumed(trained, digits, tmp_path, monkeypatch):
    retrain = ("--retrain", "--model-load-epoch", "1", "--epochs", "3", "--lr", "0.05")
    whole, cut = copy(trained, tmp_path / "whole"), copy(trained, tmp_path / "cut")
    run(digits, whole, *retrain)
    stop(monkeypatch, "_step", epoch=2, batch=3)
    with pytest.raises(Interrupted):
        run(digits, cut, *retrain)
    run(digits, cut, "--resume")
    assert_same_run(cut, whole, "0003")


def test_training_starts_from_the_parameters_of_someone_else(trained, digits, tmp_path):
    """A file of MXNet's own, with no momentum, of any name."""
    symbol, args, auxs = mx.model.load_checkpoint(str(trained / "model/net"), 3)
    mx.model.save_checkpoint(str(tmp_path / "theirs"), 0, symbol, args, auxs)
    theirs = ("--retrain", "--load-params", f"{tmp_path}/theirs-0000.params", "--lr", "0.001", "--epochs", "1")
    run(digits, tmp_path / "file", *theirs)
    train = logbook.read(tmp_path / "file/log/net/train.log").epochs[0].train["top1"]
    assert train < logbook.read(trained / "log/net/train.log").epochs[2].train["top1"] + 5
    run(digits, tmp_path / "epoch", "--retrain", "--model-load-epoch", "0", "--model-prefix", f"{tmp_path}/theirs",
        "--epochs", "1", "--lr", "0.001")  # fmt: skip
    log = (tmp_path / "epoch/log/theirs/train.log").read_text()
    assert "theirs-0000.params, without momentum" in log


def test_retrain_goes_on_at_the_step_of_the_epoch(digits, tmp_path):
    """Whatever --num-examples makes of an epoch in the schedule."""
    few = ("--num-examples", "120", "--lr-steps", "2")
    run(digits, tmp_path, "--epochs", "2", *few)
    run(digits, tmp_path, "--epochs", "2", "--retrain", "--model-load-epoch", "1", *few)
    assert ledger.read(f"{tmp_path}/model/net", "0002").step == 24
    assert "Changed: nothing" in (tmp_path / "log/net/train.log").read_text()


@pytest.mark.parametrize("suffix", ["state", "json"])
def test_retrain_needs_nothing_but_parameters(trained, digits, tmp_path, suffix):
    folder = copy(trained, tmp_path / "run")
    ledger.file(f"{folder}/model/net", "0002", suffix).unlink()
    run(digits, folder, "--retrain", "--model-load-epoch", "2", "--epochs", "3")
    told = "momentum starts from zero: " if suffix == "state" else "net-0002.params, without momentum"
    assert told in (folder / "log/net/train.log").read_text()


def test_retrain_refuses_parameters_that_are_damaged(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    path = ledger.file(f"{folder}/model/net", "0002", "params")
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
    rates = [schedule.from_options(options.parse([*begun, *more]), 100, 128) for more in ([], ["--lr", "0.0005"])]
    assert [rate(5000) for rate in rates] == [pytest.approx(0.02), 0.0005]


def test_flags_given_to_a_resumed_run_are_those_of_the_run(trained, digits, tmp_path, monkeypatch):
    """Even if it is killed before its next checkpoint."""
    folder = copy(trained, tmp_path / "run")
    monkeypatch.setattr(Loop, "_save", lambda loop: pytest.fail("nothing was to be saved"))
    monkeypatch.setattr(Loop, "_train_epoch", lambda loop: sys.exit(9))
    with pytest.raises(SystemExit):
        run(digits, folder, "--epochs", "5", "--resume")
    assert ledger.arguments(f"{folder}/model/net")["epochs"] == "5"


def test_a_new_run_tells_what_it_writes_over(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    run(digits, folder, "--epochs", "1")
    assert "checkpoints of another run" in (folder / "log/net/train.log").read_text()


def test_the_best_checkpoint_is_kept_without_its_pointer(trained, tmp_path):
    folder = copy(trained, tmp_path / "run")
    prefix = f"{folder}/model/net"
    entry = ledger.read(prefix, "0003")
    entry.validation = {str(epoch): {"accuracy": 0.9 - epoch / 10} for epoch in range(3)}
    ledger.file(prefix, "best", "json").unlink()
    ledger.prune(prefix, entry, keep=1)
    assert ledger.names(prefix) == ["0003", "0001"]


def test_a_changed_entry_is_damaged(trained, tmp_path):
    folder = copy(trained, tmp_path / "run")
    path = ledger.file(f"{folder}/model/net", "0003", "json")
    path.write_text(path.read_text().replace('"step": 36', '"step": 37'))
    with pytest.raises(UserError, match="is damaged"):
        ledger.read(f"{folder}/model/net", "0003")


def test_the_validation_of_several_devices_is_that_of_the_checkpoint(digits, tmp_path):
    more = ("--cpus", "2", "--epochs", "1")
    run(digits, tmp_path, *more)
    options_now = options.parse(arguments(digits, tmp_path, *more, "--eval-only"))
    logged = logbook.read(tmp_path / "log/net/train.log").epochs[0].validation["top1"]
    assert evaluation.of_options(options_now).top1 == pytest.approx(logged, abs=1e-3)


def test_what_a_killed_run_left_is_removed_and_what_others_write_is_not(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    own = [folder / f"model/.net-{name}" for name in ("0003.999999.params", "symbol.999999.json", "0001-00007.1.state")]
    others = [folder / "model/.net2-0003.999999.params", folder / "model/.net-0003-mine.999999.params"]
    for path in (*own, *others):
        path.touch()
    run(digits, folder, "--resume")
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in others)


def test_two_runs_do_not_write_the_same_checkpoints(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    with files.locked(folder / "model/net-lock"), pytest.raises(UserError, match=r"another run has .*net-lock"):
        run(digits, folder, "--resume")
    run(digits, folder, "--resume")
    assert not (folder / "model/net-lock").exists()


def test_a_validation_that_overflows_is_told(trained, digits, tmp_path):
    symbol, args, auxs = mx.model.load_checkpoint(str(trained / "model/net"), 3)
    auxs["bn1_moving_mean"][:] = -3e38
    mx.model.save_checkpoint(str(tmp_path / "theirs"), 0, symbol, args, auxs)
    theirs = ("--retrain", "--load-params", f"{tmp_path}/theirs-0000.params", "--bn-mom", "1", "--epochs", "1")
    for more in (theirs, ("--resume",)):
        with pytest.raises(UserError, match="the validation loss after epoch 0 is nan"):
            run(digits, tmp_path, *more)


@pytest.mark.parametrize("content", ["[]", "{", '{"run": 3'])
def test_a_damaged_pointer_is_done_without(trained, digits, tmp_path, content):
    folder = copy(trained, tmp_path / "run")
    (folder / "model/net-latest.json").write_text(content)
    run(digits, folder, "--resume")
    assert "after 3 epochs" in (folder / "log/net/train.log").read_text()


def test_a_damaged_pointer_does_not_lead_to_another_run(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    run(digits, folder, "--retrain", "--model-load-epoch", "1", "--epochs", "2", "--lr", "0.05")
    (folder / "model/net-latest.json").write_text("{")
    with pytest.raises(UserError, match="checkpoints of several runs"):
        run(digits, folder, "--resume")


def test_the_last_epoch_is_that_of_the_latest_run(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    prefix = f"{folder}/model/net"
    assert checkpoint.last_epoch(prefix) == 3
    run(digits, folder, "--retrain", "--model-load-epoch", "1", "--epochs", "2", "--lr", "0.05")
    assert checkpoint.last_epoch(prefix) == 2
    assert json.loads(Path(f"{prefix}-best.json").read_text())["checkpoint"] in ("0001", "0002")


def test_checkpoints_within_an_epoch_do_not_pile_up(digits, tmp_path, monkeypatch):
    most = []
    before = ledger.prune

    def prune(prefix, entry, keep):
        before(prefix, entry, keep)
        most.append(len([name for name in ledger.names(prefix) if "-" in name]))

    monkeypatch.setattr(ledger, "prune", prune)
    run(digits, tmp_path, "--epochs", "1", "--save-batches", "2")
    assert max(most) == 2
    assert ledger.names(f"{tmp_path}/model/net") == ["0001"]


def test_only_the_last_checkpoints_and_the_best_are_kept(digits, tmp_path):
    run(digits, tmp_path, "--epochs", "5", "--keep", "2", "--save-batches", "9")
    prefix = f"{tmp_path}/model/net"
    assert set(ledger.names(prefix)) == {"0005", "0004", ledger.best(prefix)}
    kept = {path.name for path in tmp_path.glob("model/*.params")}
    assert kept == {f"net-{name}.params" for name in ledger.names(prefix)}


def test_a_loss_that_is_not_finite_stops_the_run(trained, digits, tmp_path):
    folder = copy(trained, tmp_path / "run")
    with pytest.raises(UserError, match=r"at step \d+ \(epoch 3, batch \d+\): the last good checkpoint is .*net-0003"):
        run(digits, folder, "--epochs", "5", "--retrain", "--model-load-epoch", "3", "--lr", "1e18")
    for name in ledger.names(f"{folder}/model/net"):
        for array in checkpoint.load_arrays(ledger.file(f"{folder}/model/net", name, "params")).values():
            assert np.isfinite(array.asnumpy()).all()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(digits, tmp_path):
    """Files may grow to 200 kB here: less than the parameters need."""
    limited = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from mxnet_resnet import options, trainer
from mxnet_resnet.errors import run
run(lambda: trainer.train(options.parse(sys.argv[1:])))
"""
    given = arguments(digits, tmp_path, "--epochs", "1")
    ended = subprocess.run(
        [sys.executable, "-c", limited, *given], capture_output=True, text=True, timeout=200, cwd=REPOSITORY
    )
    assert ended.returncode == 2
    assert re.search(r"error: cannot write \S+model: is the disk full\?|the disk is full", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert {path.name for path in (tmp_path / "model").iterdir()} <= {"net-latest.json", "net-symbol.json"}


def process(given: list[str]) -> subprocess.Popen:
    command = [sys.executable, REPOSITORY / "train_resnet.py", *given]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


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
    entry = ledger.read(f"{tmp_path}/model/net", ledger.names(f"{tmp_path}/model/net")[0])
    ledger.check(f"{tmp_path}/model/net", entry)
    assert entry.batch > 0


@pytest.mark.slow
def test_killed_at_fifty_moments_a_run_ends_as_if_it_never_was(digits, tmp_path):
    """Most of them while it trains, saves or validates, some while it starts."""
    more = ("--epochs", "150", "--keep", "3", "--save-batches", "5", "--aug-level", "2")
    run(digits, tmp_path / "whole", *more)
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
            ledger.check(prefix, ledger.read(prefix, name))
    run(digits, folder, *more, "--resume")
    assert_same_run(folder, tmp_path / "whole", "0150")
    assert not [path.name for path in folder.glob("model/.*")]
