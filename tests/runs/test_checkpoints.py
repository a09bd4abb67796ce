"""What lies on disk: whole, damaged, too much, or of another run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mxnet_resnet.base import files
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, entries, ledger
from tests.helpers import REPOSITORY
from tests.helpers.runs import arguments, assert_same_run, copy, run


def test_a_checkpoint_tells_all_that_it_is(three_epochs):
    prefix = f"{three_epochs}/model/net"
    entry = entries.read(prefix, "0003")
    assert (entry.epoch, entry.batch, entry.step) == (3, 0, 3 * 12)
    assert entry.arguments["epochs"] == "3"
    assert entry.settings["data.train"]["images"] == 360
    assert list(entry.validation) == ["0", "1", "2"]
    best = min(entry.errors, key=entry.errors.get)
    assert ledger.best(prefix) == f"{best + 1:04d}"
    assert json.loads(Path(f"{prefix}-latest.json").read_text())["checkpoint"] == "0003"
    momentum = checkpoint.load_state(prefix, "0003")
    args, _ = checkpoint.load_params(prefix, 3)
    assert momentum.keys() == {f"momentum:{name}" for name in args}
    entries.verify(prefix, entry)


@pytest.mark.parametrize("suffix", ["params", "state", "json"])
def test_a_damaged_checkpoint_is_passed_over(three_epochs, digits, tmp_path, suffix):
    folder = copy(three_epochs, tmp_path / "run")
    path = entries.file(f"{folder}/model/net", "0003", suffix)
    path.write_bytes(path.read_bytes()[:-100])
    run(digits, folder, "--resume")
    log = (folder / "log/net/train.log").read_text()
    assert re.search(rf"Checkpoint 0003 is passed over: \S+net-0003.{suffix} is damaged", log)
    assert "after 2 epochs" in log
    assert_same_run(folder, three_epochs, "0003")


def test_without_a_whole_checkpoint_there_is_nothing_to_resume(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    for path in folder.glob("model/*.params"):
        path.unlink()
    with pytest.raises(UserError, match=r"no checkpoint of .* is whole: .*net-0003.params is missing"):
        run(digits, folder, "--resume")


def test_the_best_checkpoint_is_kept_without_its_pointer(three_epochs, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    prefix = f"{folder}/model/net"
    entry = entries.read(prefix, "0003")
    entry.validation = {str(epoch): {"accuracy": 0.9 - epoch / 10} for epoch in range(3)}
    entries.file(prefix, "best", "json").unlink()
    ledger.prune(prefix, entry, keep=1)
    assert ledger.names(prefix) == ["0003", "0001"]


def test_a_changed_entry_is_damaged(three_epochs, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    path = entries.file(f"{folder}/model/net", "0003", "json")
    path.write_text(path.read_text().replace('"step": 36', '"step": 37'))
    with pytest.raises(UserError, match="is damaged"):
        entries.read(f"{folder}/model/net", "0003")


def test_what_a_killed_run_left_is_removed_and_what_others_write_is_not(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    own = [folder / f"model/.net-{name}" for name in ("0003.999999.params", "symbol.999999.json", "0001-00007.1.state")]
    others = [folder / "model/.net2-0003.999999.params", folder / "model/.net-0003-mine.999999.params"]
    for path in (*own, *others):
        path.touch()
    run(digits, folder, "--resume")
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in others)


def test_two_runs_do_not_write_the_same_checkpoints(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    with files.locked(folder / "model/net-lock"), pytest.raises(UserError, match=r"another run has .*net-lock"):
        run(digits, folder, "--resume")
    run(digits, folder, "--resume")
    assert not (folder / "model/net-lock").exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"run": 3'])
def test_a_damaged_pointer_is_done_without(three_epochs, digits, tmp_path, content):
    folder = copy(three_epochs, tmp_path / "run")
    (folder / "model/net-latest.json").write_text(content)
    run(digits, folder, "--resume")
    assert "after 3 epochs" in (folder / "log/net/train.log").read_text()


def test_a_damaged_pointer_does_not_lead_to_another_run(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
    run(digits, folder, "--retrain", "--model-load-epoch", "1", "--epochs", "2", "--lr", "0.05")
    (folder / "model/net-latest.json").write_text("{")
    with pytest.raises(UserError, match="checkpoints of several runs"):
        run(digits, folder, "--resume")


def test_the_last_epoch_is_that_of_the_latest_run(three_epochs, digits, tmp_path):
    folder = copy(three_epochs, tmp_path / "run")
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


def test_a_full_disk_is_told_and_leaves_nothing_half_written(digits, tmp_path):
    """Files may grow to 200 kB here: less than the parameters need."""
    limited = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from mxnet_resnet import engines
from mxnet_resnet.base.errors import run
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.run import train
run(lambda: train(parse(sys.argv[1:]), engines.choose()))
"""
    given = arguments(digits, tmp_path, "--epochs", "1")
    ended = subprocess.run(
        [sys.executable, "-c", limited, *given], capture_output=True, text=True, timeout=200, cwd=REPOSITORY
    )
    assert ended.returncode == 2
    assert re.search(r"error: cannot write \S+model: is the disk full\?|the disk is full", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert {path.name for path in (tmp_path / "model").iterdir()} <= {"net-latest.json", "net-symbol.json"}
