"""The head of a log: a table of settings, a short line for programs, and what is at odds."""

from __future__ import annotations

import re

import pytest

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.run import train
from tests.helpers.pictures import photograph, png
from tests.helpers.recordfiles import write_records
from tests.helpers.runs import arguments
from tests.helpers.toy import ToyEngine


def write_log(digits, folder, *more: str) -> str:
    train(parse(arguments(digits, folder, "--lr", "0.05", *more)), ToyEngine())
    return (folder / "log/net/train.log").read_text()


def warnings(log: str) -> list[str]:
    return [line.removeprefix("WARNING:root:") for line in log.splitlines() if line.startswith("WARNING:root:")]


def test_a_log_begins_with_a_table_of_settings(digits, tmp_path):
    log = write_log(digits, tmp_path, "--epochs", "1", "--seed", "0", "--optimizer", "sgd")
    table = log[: log.index("INFO:root:Namespace(")]
    assert table.startswith("INFO:root:Settings")
    rows = dict(re.findall(r"^INFO:root:  ([ *] [\w-]+) +(\S+)$", table, re.MULTILINE))
    given = {"* epochs": "1", "* seed": "0", "* optimizer": "sgd", "* lr": "0.05", "* gpus": "none"}
    assert {**rows, **given, "  mom": "0.9", "  lr-steps": "12,17", "  num-classes": "10"} == rows
    assert max(map(len, table.splitlines())) < 200 and "None" not in table and "memonger" not in table


def test_the_line_for_programs_has_what_is_no_default(digits, tmp_path):
    log = write_log(digits, tmp_path, "--epochs", "1")
    (line,) = re.findall(r"^INFO:root:Namespace\((.*)\)$", log, re.MULTILINE)
    for needed in ("depth=8", "lr=0.05", "batch_size=30", "seed=0", "resume=False", "num_classes=10"):
        assert re.search(rf"\b{needed}\b", line), line
    assert "optimizer" not in line and "None" not in line


@pytest.mark.parametrize(
    "more, told",
    [
        ("--epochs 1", ["The learning rate would fall after 12, 17 epochs, and the run ends after 1: "]),
        ("--epochs 1 --lr-steps none", []),
        ("--epochs 1 --lr-schedule cosine", []),
        ("--epochs 1 --lr-iterations 11", []),
        ("--epochs 1 --lr-iterations 6,12", ["The learning rate would fall after 1 epochs, and "]),
        ("--epochs 1 --lr-steps none --lr-factor 0.2", ["--lr-factor changes nothing without --lr-steps or"]),
        ("--epochs 1 --lr-steps none --warmup-steps 12", ["The warm-up of 12 steps lasts to the end of the run"]),
        ("--epochs 1 --lr-steps none --warmup-lr 0.2", ["--warmup-lr changes nothing without --warmup-steps"]),
        ("--epochs 1 --lr-steps none --save-batches 13", ["--save-batches 13 is never reached: an epoch has 12"]),
        ("--epochs 1 --lr-steps none --aug-level 2 --aug-off-epoch 1", ["--aug-off-epoch 1 is never reached: the"]),
    ],
)
def test_what_is_at_odds_is_told(digits, tmp_path, more, told):
    found = warnings(write_log(digits, tmp_path, *more.split()))
    assert len(found) == len(told)
    for sentence, begin in zip(found, told):
        assert sentence.startswith(begin)


def test_a_resumed_run_tells_what_earlier_commands_gave(digits, tmp_path):
    write_log(digits, tmp_path, "--epochs", "1", "--wd", "0.001")
    log = write_log(digits, tmp_path, "--resume")
    assert re.search(r"Earlier commands of this run gave, and so it goes on with: .*--epochs 1 ?.*--wd 0.001", log)
    assert "Nothing is left to train of --epochs 1" in log
    before = log.count("Earlier commands")
    log = write_log(digits, tmp_path, "--resume", "--epochs", "2", "--wd", "0.001")
    assert log.count("Earlier commands") == before and log.count("Nothing is left") == 1


def test_a_stop_is_told_once_on_the_terminal_and_in_the_log(digits, tmp_path, capsys):
    with pytest.raises(Interrupted) as end:
        write_log(digits, tmp_path, "--epochs", "2", "--max-minutes", "1e-9")
    assert "Time is up" not in capsys.readouterr().err  # the command says it
    log = (tmp_path / "log/net/train.log").read_text()
    assert log.count("Time is up") == 1 and log.splitlines()[-1] == f"INFO:root:{end.value}"


def test_records_that_may_not_go_together_are_a_warning(digits, tmp_path):
    files = {}
    for name, labels in (("train", 3), ("val", 1)):
        files[name] = write_records(
            tmp_path / f"{name}.rec", [png(photograph(32, 32))] * 30, [n % labels for n in range(30)]
        )
    flags = f"--data-train {files['train']} --data-val {files['val']} --epochs 1 --lr-steps none"
    fewer, sentence = warnings(write_log(digits, tmp_path, *flags.split()))
    assert fewer.startswith("Training has images of 3 of the 10 classes: none of 3, 4, 5, 6, 7, 8, 9.")
    assert sentence.startswith("1 class has validation images, and 3 training images: none of 1, 2")
