"""Nothing at a prefix is written over that is not known to be of the run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import ledger, ownership
from mxnet_resnet.settings.run import parse, parse_runs
from mxnet_resnet.train import loop as training
from mxnet_resnet.train.run import train
from mxnet_resnet.train.seeds import train_seeds
from tests.helpers.runs import arguments
from tests.helpers.toy import GRAPH, ToyEngine

RUN = ("--epochs", "2", "--lr", "0.05")


def train_toy(digits, folder: Path, *more: str) -> None:
    train(parse(arguments(digits, folder, *more)), ToyEngine())


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("model/*"))}


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory) -> Path:
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("finished")
    train_toy(digits, folder, *RUN)
    return folder


@pytest.fixture
def ours(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def theirs(ours) -> Path:
    """The same checkpoints, as Module.fit leaves them: parameters and a graph of its own."""
    for path in [*ours.glob("model/*.json"), *ours.glob("model/*.state")]:
        path.unlink()
    (ours / "model/net-symbol.json").write_text(GRAPH + "\n")
    return ours


@pytest.mark.parametrize("more", [(), ("--resume",), ("--max-minutes", "60"), ("--epochs", "1", "--lr", "0.1")])
def test_checkpoints_of_strangers_stay(digits, theirs, more):
    before = digests(theirs)
    told = "net has the checkpoints 0001 to 0002 that this program did not write.*--retrain --model-load-epoch 2, or "
    with pytest.raises(UserError, match=told):
        train_toy(digits, theirs, *RUN, *more)
    assert digests(theirs) == before


def test_one_of_several_seeds_that_would_write_over_a_stranger_stops_all(digits, theirs):
    for path in list(theirs.glob("model/*")):
        path.rename(path.with_name(path.name.replace("net-", "net-seed2-")))
    before = digests(theirs)
    with pytest.raises(UserError, match="net-seed2 has the checkpoints 0001 to 0002"):
        train_seeds(parse_runs(arguments(digits, theirs, *RUN, "--seeds", "1,2")), ToyEngine())
    assert digests(theirs) == before


def test_a_graph_alone_stays_unless_it_is_the_same(digits, tmp_path):
    (tmp_path / "model").mkdir()
    graph = tmp_path / "model/net-symbol.json"
    graph.write_text("{}")
    with pytest.raises(UserError, match=r"net-symbol\.json is there, and not known to be of this program"):
        train_toy(digits, tmp_path, *RUN)
    assert graph.read_text() == "{}"
    graph.write_text(GRAPH)
    train_toy(digits, tmp_path, *RUN)


def test_a_retrain_from_a_stranger_keeps_what_is_theirs(digits, theirs, monkeypatch):
    prefix, graph = f"{theirs}/model/net", (theirs / "model/net-symbol.json").read_text()
    before = digests(theirs)
    with pytest.raises(UserError, match=r"the checkpoint 0002 that .*would be written over: .*--model-load-epoch 2"):
        train_toy(digits, theirs, *RUN, "--retrain", "--model-load-epoch", "1")
    assert digests(theirs) == before
    _keep_only_parameters(monkeypatch)
    train_toy(digits, theirs, "--epochs", "3", "--lr", "0.05", "--retrain", "--model-load-epoch", "2")
    after = digests(theirs)
    assert {name: after[name] for name in before if name.endswith("params")} == {
        name: digest for name, digest in before.items() if name.endswith("params")
    }
    (kept,) = theirs.glob("model/net-symbol-*.json")
    assert kept.read_text() == graph
    log = (theirs / "log/net/train.log").read_text()
    assert f"net-symbol.json was not written by this program: it is kept as {kept}" in log
    train_toy(digits, theirs, "--resume", "--epochs", "4")  # theirs lie behind it
    assert ledger.names(prefix) == ["0004", "0003"]


def _keep_only_parameters(monkeypatch) -> None:
    monkeypatch.setattr("tests.helpers.toy.ToyModel.start", _start_without_momentum)


def _start_without_momentum(model, group, snapshot, step):
    from tests.helpers.toy import ToySession

    session = ToySession(model, None)
    session.weight = snapshot.params["fc1_weight"]
    return session


def test_a_resumed_run_stops_before_the_checkpoint_of_a_stranger(digits, ours):
    shutil.copy(ours / "model/net-0001.params", ours / "model/net-0004.params")
    before = digests(ours)
    with pytest.raises(UserError, match="the checkpoint 0004 that this program did not write"):
        train_toy(digits, ours, "--resume", "--epochs", "4")
    assert digests(ours) == before
    train_toy(digits, ours, "--resume", "--epochs", "3")


@pytest.mark.parametrize(
    "more, told",
    [
        (
            ("--lr", "0.1"),
            r"another run \(learning rate lr was 0.05, is 0.1\); --resume goes on with it; to begin anew",
        ),
        (("--data-train", "{digits}/digits_train.rec"), r"another run \(training records was 360 images"),
        (("--epochs", "1"), "this run, and --epochs 1 is less; --resume goes on with it"),
        (("--epochs", "9"), "this run, which has not come to the end of --epochs 9; --resume goes on with it"),
    ],
)
def test_another_run_of_ours_stays(digits, ours, more, told):
    before = digests(ours)
    with pytest.raises(UserError, match=f"net has the checkpoints 0001 to 0002 of {told}.*another --model-prefix"):
        train_toy(digits, ours, *RUN, *(word.format(digits=digits) for word in more))
    assert digests(ours) == before


def test_the_same_run_once_more_writes_the_same(digits, ours):
    before = {name: digest for name, digest in digests(ours).items() if name.endswith("params")}
    train_toy(digits, ours, *RUN)
    assert {name: digest for name, digest in digests(ours).items() if name.endswith("params")} == before
    assert "finished run of the same settings" in (ours / "log/net/train.log").read_text()


def test_a_run_from_the_parameters_of_others_is_not_the_same_run(digits, ours, tmp_path, monkeypatch):
    theirs = shutil.copy(ours / "model/net-0002.params", tmp_path / "theirs.params")
    before = digests(ours)
    begun = (*RUN, "--retrain", "--load-params", str(theirs))
    with pytest.raises(UserError, match="0001 to 0002 of a run of these settings that began from random weights"):
        train_toy(digits, ours, *begun)
    assert digests(ours) == before
    _keep_only_parameters(monkeypatch)
    train_toy(digits, tmp_path / "other", *begun)
    before = digests(tmp_path / "other")
    with pytest.raises(UserError, match=f"of this run, which has finished, and began from the parameters in {theirs};"):
        train_toy(digits, tmp_path / "other", *begun)
    with pytest.raises(UserError, match=f"of a run of these settings that began from the parameters in {theirs};"):
        train_toy(digits, tmp_path / "other", *RUN)
    assert digests(tmp_path / "other") == before


def test_a_retrain_tells_what_becomes_of_our_later_checkpoints(digits, ours):
    train_toy(digits, ours, "--resume", "--epochs", "4")
    train_toy(digits, ours, *RUN, "--retrain", "--model-load-epoch", "1")
    train_toy(digits, ours, "--resume", "--epochs", "3")
    log = (ours / "log/net/train.log").read_text()
    assert re.findall(r"Of an earlier run of \S+ (.*)", log) == [
        "the checkpoint 0002 will be written over, the checkpoints 0003 to 0004 will stay",
        "the checkpoint 0003 will be written over, the checkpoint 0004 will stay",  # by the run that goes on
    ]


@pytest.mark.parametrize("place", [b'"run": "', b'"epochs": "', b'"checkpoint": "000', b'"digest": "', b'"lr": "0.0'])
def test_a_flipped_bit_in_the_pointer_changes_nothing(digits, ours, place):
    path = ours / "model/net-latest.json"
    data = bytearray(path.read_bytes())
    data[data.index(place) + len(place)] ^= 1
    path.write_bytes(data)
    before = digests(ours)
    train_toy(digits, ours, "--resume")
    after = digests(ours)
    assert {name for name in before if before[name] != after[name]} <= {"net-latest.json"}
    assert "Resuming" in (ours / "log/net/train.log").read_text()


def test_a_pointer_of_an_older_clone_that_is_at_odds_with_its_checkpoint_does_not_count(digits, ours):
    path = ours / "model/net-latest.json"
    content = json.loads(path.read_text())
    del content["digest"]
    path.write_text(json.dumps(content))
    assert ledger.latest(f"{ours}/model/net") == "0002"
    path.write_text(json.dumps({**content, "run": "another"}))
    assert ledger.latest(f"{ours}/model/net") is None
    assert ledger.names(f"{ours}/model/net") == ["0002", "0001"]


def test_what_a_killed_run_left_is_its_own(digits, ours, monkeypatch):
    """Between the last of the arrays and their entry."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mxnet_resnet.runs.ledger.write", die)
        with pytest.raises(KeyboardInterrupt):
            train_toy(digits, ours, "--resume", "--epochs", "4")
    prefix = f"{ours}/model/net"
    assert Path(f"{prefix}-0003.params").exists() and ownership.find_strangers(prefix) == []
    for method in ("_train_epoch", None):  # killed again before anything is saved
        with monkeypatch.context() as patch:
            if method:
                patch.setattr(training.Loop, method, die)
                with pytest.raises(KeyboardInterrupt):
                    train_toy(digits, ours, "--resume")
            else:
                train_toy(digits, ours, "--resume")
    assert ledger.names(prefix) == ["0004", "0003", "0002", "0001"]


def test_a_checkpoint_within_an_epoch_without_its_entry_stays(digits, ours):
    stranger = ours / "model/net-0001-00007.params"
    shutil.copy(ours / "model/net-0001.params", stranger)
    train_toy(digits, ours, "--resume", "--epochs", "3")
    assert stranger.exists()
