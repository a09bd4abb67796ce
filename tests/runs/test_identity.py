"""What a run is: kept under stable keys, so that no checkpoint is orphaned by another wording or one more field."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import entries, identity
from mxnet_resnet.runs.identity import FIELDS, Change, Field
from tests.helpers import REPOSITORY
from tests.helpers.runs import train

OLD = REPOSITORY / "tests/files/entry"  # a run of schema 1, stopped after two of three epochs
RESULTS = sorted(path for path in (REPOSITORY / "log/results").rglob("*-[0-9]*.json"))


@pytest.fixture
def old(tmp_path):
    """Go on with that run; more flags may change it."""
    shutil.copytree(OLD, tmp_path / "model")

    def resume(*more: str):
        records = ("--data-train", str(OLD / "tiny.rec"), "--data-val", str(OLD / "tiny.rec"))
        place = ("--model-prefix", f"{tmp_path}/model/net", "--log-dir", f"{tmp_path}/log")
        train(["--resume", *place, *records, *more])
        return tmp_path

    return resume


def test_a_run_of_an_older_version_goes_on_as_it_would_have(old):
    folder = old("--epochs", "3")
    log = (folder / "log/net/train.log").read_text()
    assert "after 2 epochs and 0 batches, 8 steps" in log
    notes = [line for line in log.splitlines() if "Not to the bit the same run" in line]
    assert all("machine threads" in line for line in notes)
    # As the version that began the run ended it.
    last = logreader.read(folder / "log/net/train.log").epochs[2].validation
    assert last["top1"] == pytest.approx(100 * (1 - 7 / 48), abs=0.1)
    assert last["cross-entropy"] == pytest.approx(6.430703, rel=0.02)
    entry = json.loads((folder / "model/net-0003.json").read_text())
    assert entry["schema"] == identity.SCHEMA and entry["settings"].keys() <= FIELDS.keys()


@pytest.mark.parametrize(
    "more, message",
    [
        ("--lr 0.1", "learning rate lr was 0.05, is 0.1"),
        ("--depth 14", "depth was 8, is 14"),
        ("--lr-schedule cosine", "learning rate schedule was steps, is cosine"),
        ("--aug-off-epoch 1", "later training records was none, is 48 images .*augmentation off was none, is 1"),
    ],
)
def test_a_run_of_an_older_version_is_not_resumed_as_another(old, more, message):
    with pytest.raises(UserError, match=f"cannot be resumed with other values .*{message}"):
        old("--epochs", "3", *more.split())


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_entries_of_published_results_are_read(path):
    prefix, _, name = str(path.with_suffix("")).rpartition("-")
    entry = entries.read(prefix, name)
    assert entry.settings.keys() <= FIELDS.keys()
    required = {key for key in FIELDS if FIELDS[key].default is identity.REQUIRED and not key.startswith("machine.")}
    assert required <= entry.settings.keys()
    assert entry.settings["data.train"]["images"] == 50_000


def test_one_more_field_with_the_old_behaviour_as_default_changes_no_run(monkeypatch):
    before = entries.read(f"{OLD}/net", "0002").settings
    monkeypatch.setitem(FIELDS, "data.blur", Field("blur", 0))
    assert identity.compare(before, {**before, "data.blur": 0}) == []
    changes = identity.compare(before, {**before, "data.blur": 3})
    assert changes == [Change("data.blur", 0, 3)]
    assert identity.describe(changes[0]) == "blur was 0, is 3"


def test_another_wording_changes_no_run():
    """Nor does it orphan the entries of older versions: in a process in which every label is another from the start."""
    reword = """
import sys
from pathlib import Path
source = Path(sys.argv[1]).read_text()
assert source.count("Field(\\"") > 30
import mxnet_resnet.runs.identity as identity
exec(compile(source.replace("Field(\\"", "Field(\\"another "), "reworded", "exec"), vars(identity))
from mxnet_resnet.runs import entries
for path in sys.argv[2:]:
    prefix, _, name = path.rpartition("-")
    entry = entries.read(prefix, name)
    assert identity.compare(entry.settings, dict(entry.settings)) == []
    print(identity.describe(identity.Change("seed", 0, 1)))
"""
    paths = [str(path.with_suffix("")) for path in (OLD / "net-0002.json", *RESULTS)]
    done = subprocess.run(
        [sys.executable, "-c", reword, identity.__file__, *paths], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "another seed was 0, is 1\n" * len(paths)


def test_the_machine_may_be_another_one():
    before = entries.read(f"{OLD}/net", "0002").settings
    changes = identity.compare(before, {**before, "machine.devices": 2, "machine.engine": "torch", "seed": 1})
    assert {change.key: change.of_machine for change in changes} == {
        "seed": False,
        "machine.devices": True,
        "machine.engine": True,
    }


def test_a_run_that_a_later_version_went_on_with_is_not_written_over(old, tmp_path):
    """Although an older checkpoint of it is whole."""
    for suffix in ("params", "state", "json"):
        shutil.copy(OLD / f"net-0002.{suffix}", tmp_path / f"model/net-0003.{suffix}")
    path = tmp_path / "model/net-0003.json"
    content = json.loads(path.read_text())
    content.update(epoch=3, schema=identity.SCHEMA + 1)
    del content["digests"]["entry"]
    path.write_text(json.dumps(content))
    before = {file: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    with pytest.raises(UserError, match=r"net-0003\.json is of a later version of this program: update it"):
        old("--epochs", "4")
    assert {file: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before


@pytest.mark.parametrize("broken", [{"network": 3}, {"no such label": 1}, {"learning rate": {}}, {"machine": {"x": 1}}])
def test_settings_of_no_version_are_damaged(tmp_path, broken):
    shutil.copytree(OLD, tmp_path / "model")
    path = tmp_path / "model/net-0002.json"
    content = json.loads(path.read_text())
    content["settings"].update(broken)
    del content["digests"]["entry"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"net-0002\.json is damaged"):
        entries.read(f"{tmp_path}/model/net", "0002")
