"""What is read again is what was written: weights, data; a run's log is its own, and what --keep leaves is exact."""

import json
import os
import shutil
import signal
from contextlib import suppress

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import watching
from mxnet_resnet.data import recordio
from mxnet_resnet.data.writer import RecordWriter
from mxnet_resnet.runs import checkpoint, entries, identity, ledger, logbook
from tests.helpers.runs import copy
from tests.runs.test_ownership import train_toy

RUN = ("--epochs", "2", "--lr", "0.05")


@pytest.fixture(scope="module")
def ours(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    train_toy(digits, folder, *RUN)
    return folder


def flip(path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_weights_are_checked_wherever_they_are_read(ours, tmp_path):
    prefix = str(copy(ours, tmp_path / "run") / "model/net")
    for load in (lambda: checkpoint.load_params(prefix, 2), lambda: checkpoint.load_named(prefix, "latest")):
        load()
    path = checkpoint.params_path(prefix, 2)
    flip(path, path.stat().st_size // 2)
    for load in (lambda: checkpoint.load_params(prefix, 2), lambda: checkpoint.load_named(prefix, "latest")):
        with pytest.raises(UserError, match=r"net-0002.params is damaged: it is not what net-0002.json says"):
            load()
    (tmp_path / "alias-0001.params").symlink_to(path)
    with pytest.raises(UserError, match=r"net-0002.params is damaged"):
        checkpoint.load_params(str(tmp_path / "alias"), 1)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"net-0002.json, which tells whether net-0002.params is whole, is damaged"):
        checkpoint.load_params(prefix, 2)
    path.with_suffix(".json").write_text('{"name": "someone else\'s"}')
    checkpoint.load_params(prefix, 2)


@pytest.mark.parametrize("name", ["../other/net-0001", "/etc/passwd", 7, None, "0001/../0002"])
def test_a_pointer_leads_nowhere_else(ours, tmp_path, name):
    prefix = str(copy(ours, tmp_path / "run") / "model/net")
    entries.file(prefix, "best", "json").write_text(json.dumps({"run": "a", "checkpoint": name}))
    assert ledger.best(prefix) is None


def exchange(source, target, numbers) -> None:
    """Copy records, exchanging the images of ``numbers`` for others of the same length and label."""
    records = recordio.RecordFile(source, recordio.scan(source).offsets)
    with RecordWriter(target.with_suffix("")) as writer:
        for number in range(len(records.offsets)):
            record = records.read(number)
            image = bytearray(record.image)
            if number in numbers:
                image[-1] ^= 1
            writer.write(number, record.label, bytes(image), "x")


@pytest.mark.parametrize("whole", [True, False])
def test_images_that_are_exchanged_are_another_data_set(digits, tmp_path, monkeypatch, whole):
    if not whole:
        monkeypatch.setattr(recordio, "READ_WHOLE", 1)
        monkeypatch.setattr(recordio, "SAMPLED", 200)
    source = next(digits.glob("*train*.rec"))
    count = recordio.scan(source).count
    exchange(source, tmp_path / "same.rec", ())
    exchange(source, tmp_path / "other.rec", range(0, count, 2))
    same, other = (recordio.scan(tmp_path / f"{name}.rec") for name in ("same", "other"))
    assert same.digest == other.digest
    assert same.content != other.content == recordio.scan(tmp_path / "other.rec").content
    assert bool(recordio.describe_sampling(source, same)) is not whole


def test_entries_of_before_do_not_tell_the_bytes(tmp_path):
    before, after = {"data.train": {"images": 5, "digest": "a"}}, {"data.train": identity.identify_records(5, "a", "b")}
    assert not identity.compare(before, after)
    assert identity.compare(after, {"data.train": identity.identify_records(5, "a", "c")})
    assert identity.compare(before, {"data.train": identity.identify_records(6, "a", "b")})


def test_runs_of_one_name_in_two_folders_have_logs_of_their_own(digits, tmp_path):
    flags = ("--log-dir", str(tmp_path / "log"))
    for number, folder in enumerate(("a", "b")):
        train_toy(digits, tmp_path / folder, *RUN, "--seed", str(number), *flags)
    train_toy(digits, tmp_path / "a", "--resume", "--epochs", "3", *flags)
    first, second = ((tmp_path / f"log/{name}/train.log").read_text() for name in ("net", "net-2"))
    assert first.count("Epoch[1] Train-accuracy") == second.count("Epoch[1] Train-accuracy") == 1
    assert "Epoch[2] Train-accuracy" in first and "Epoch[2]" not in second
    shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved"))
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    assert logbook.find_folder(moved / "log", str(moved / "b/model/net")) == moved / "log/net-2"


KILLED = "a machine that stops"


@pytest.mark.parametrize("at", range(6))
def test_keep_leaves_what_it_says_after_a_kill_anywhere(digits, tmp_path, monkeypatch, at):
    """The last removals are cut off behind the first ``at`` files."""
    folder, unlink = tmp_path / "run", type(tmp_path).unlink
    flags = ("--epochs", "4", "--lr", "0.05", "--keep", "1")
    left = [at]

    def cut(path, missing_ok=False):
        if path.name.startswith("net-0003"):
            if not left[0]:
                raise KeyboardInterrupt(KILLED)
            left[0] -= 1
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", cut)
        with suppress(KeyboardInterrupt):
            train_toy(digits, folder, *flags)
    train_toy(digits, folder, "--resume")
    best = ledger.best(f"{folder}/model/net")
    left_over = {path.name.split(".")[0] for path in (folder / "model").glob("net-0*")}
    assert left_over == {"net-0004", f"net-{best}"}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows")
def test_a_terminal_that_closes_is_a_wish_to_stop():
    with watching() as wish:
        os.kill(os.getpid(), signal.SIGHUP)
        assert wish.signal == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with watching() as wish:
            os.kill(os.getpid(), signal.SIGHUP)
            assert wish.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)
