"""Where commands write: the standard output, streams, and what they must not write over."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.recordio import walk
from mxnet_resnet.data.writer import RecordWriter
from tests.helpers import REPOSITORY

DIGITS = REPOSITORY / "log/digits.log"


def plot(*flags: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "log/plot_curve.py"), "--logs", str(DIGITS), *map(str, flags)]
    return subprocess.run(command, capture_output=True, timeout=120)


def test_a_table_to_the_standard_output_is_alone_there(tmp_path):
    done = plot("--csv", "-", "--out", tmp_path / "curve.png")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("log,epoch,phase") and all(line.startswith("digits,") for line in lines[1:])
    assert done.stderr.decode().startswith("top-1 error")


def test_a_picture_to_the_standard_output_is_a_png(tmp_path):
    done = plot("--out", "-")
    assert cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR) is not None
    assert done.stderr.decode().startswith("top-1 error")


def test_a_full_device_is_told(tmp_path):
    done = plot("--csv", "/dev/full", "--out", tmp_path / "curve.png")
    assert (done.returncode, done.stderr) == (2, b"error: cannot write /dev/full: No space left on device\n")


def test_the_reader_of_a_table_may_go(tmp_path):
    script = f"{sys.executable} {REPOSITORY}/log/plot_curve.py --logs {DIGITS} --out {tmp_path}/a.png --csv - | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, timeout=120)
    assert b"Traceback" not in done.stderr and done.returncode in (0, 141), done.stderr


@pytest.mark.parametrize("link", [False, True])
def test_what_is_read_is_not_written_over(command, capsys, tmp_path, link):
    log, target = tmp_path / "a.log", tmp_path / "a.log"
    log.write_bytes(DIGITS.read_bytes())
    if link:
        target = tmp_path / "b.csv"
        target.symlink_to(log)
    status, _, err = command(capsys, "log/plot_curve.py", "--logs", log, "--csv", target)
    assert (status, log.read_bytes()) == (2, DIGITS.read_bytes())
    assert err == f"error: --csv {target} would take the place of the file that --logs names\n"


@pytest.mark.parametrize("name", ["symbol.json", "0001.params", "0001.json", "latest.json", "0001-00005.state"])
def test_checkpoints_of_a_run_are_not_written_over(command, capsys, tmp_path, name):
    (tmp_path / "run-latest.json").write_text('{"run": "abc", "checkpoint": "0001"}')
    (tmp_path / f"run-{name}").touch()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    status, _, err = command(capsys, "log/plot_curve.py", "--logs", DIGITS, "--csv", tmp_path / f"run-{name}")
    assert status == 2
    assert "it is of the checkpoints of the run" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    status, _, err = command(capsys, "tools/convert.py", "none.params", tmp_path / "run")
    assert (status, "it is of the checkpoints of the run" in err) == (2, True), err


@pytest.mark.parametrize(
    "script, flags, name",
    [
        ("log/plot_curve.py", ("--logs", DIGITS, "--out"), "a.png"),
        ("log/plot_curve.py", ("--logs", DIGITS, "--csv"), "a.csv"),
        ("tools/aggregate.py", ("--logs", DIGITS, "--csv"), "a.csv"),
        ("tools/show_augment.py", (REPOSITORY / "docs/predict.png", "--out"), "a.png"),
        ("tools/model_table.py", ("--out",), "a.md"),
        ("tools/convert.py", ("none.params",), "a.params"),
        ("predict/export.py", ("--prefix", "none", "--to", "onnx", "--out"), "a.onnx"),
        ("predict/export.py", ("--prefix", "none", "--to", "torch", "--out"), "a.pth"),
    ],
)
def test_checkpoints_of_a_run_are_not_written_over_through_a_link(command, capsys, tmp_path, script, flags, name):
    (tmp_path / "run-latest.json").write_text('{"run": "abc", "checkpoint": "0001"}')
    (tmp_path / "run-0001.params").write_bytes(b"weights")
    (tmp_path / name).symlink_to("run-0001.params")
    status, _, err = command(capsys, script, *flags, tmp_path / name)
    assert (status, (tmp_path / "run-0001.params").read_bytes()) == (2, b"weights")
    assert "it is of the checkpoints of the run" in err


def test_records_have_one_writer(tmp_path):
    with RecordWriter(tmp_path / "a", {"seed": 0}) as first:
        first.write(0, 0.0, b"image", "0.png")
        with pytest.raises(UserError, match="these records are being written"), RecordWriter(tmp_path / "a", {}):
            pytest.fail("both write")
        first.write(1, 1.0, b"image", "1.png")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.idx", "a.lst", "a.rec"]
    with RecordWriter(tmp_path / "a"):
        pass  # the lock is free again


def test_im2rec_started_twice_makes_whole_records(tmp_path):
    for number in range(40):
        path = tmp_path / f"images/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((200, 200, 3), number, np.uint8))
    command = [sys.executable, REPOSITORY / "tools/im2rec.py", tmp_path / "x", tmp_path / "images"]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    printed = [job.communicate(timeout=120)[0] for job in jobs]
    assert all("Traceback" not in text for text in printed), printed
    assert 0 in [job.returncode for job in jobs]
    keys = [int(line.split()[0]) for line in (tmp_path / "x.idx").read_text().splitlines()]
    assert sorted(keys) == list(range(40)) and len(list(walk(tmp_path / "x.rec"))) == 40


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_records_replace_no_link_and_no_pipe(tmp_path, kind):
    target = tmp_path / "a.rec"
    if kind == "link":
        target.symlink_to("victim")
    else:
        os.mkfifo(target)
    with pytest.raises(UserError, match="it is a link, a device or a pipe"), RecordWriter(tmp_path / "a"):
        pytest.fail("it is open")
    assert target.is_symlink() or target.is_fifo()


def test_planted_parts_are_refused(tmp_path):
    (tmp_path / "victim").write_text("before")
    (tmp_path / ".a.rec.part").symlink_to("victim")
    with pytest.raises(UserError, match="not a file of yours"), RecordWriter(tmp_path / "a", {}):
        pytest.fail("it is open")
    assert (tmp_path / "victim").read_text() == "before"


def test_a_log_through_a_pipe(tmp_path):
    from mxnet_resnet.runs import logbook

    pipe, read = tmp_path / "train.log", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with logbook.opening(pipe, append=False) as log, log.receiving():
        logbook.write_learning_rate(0, 0.1)
    reader.join(10)
    assert read == ["INFO:root:Epoch[0] Learning rate=0.1\n"]
    assert pipe.is_fifo()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path, monkeypatch):
    from mxnet_resnet.base import places
    from mxnet_resnet.runs import logbook, metrics

    monkeypatch.setattr(places, "READER_SECONDS", 0)
    for name in ("train.log", metrics.NAME):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=r"train.log: it is a pipe that nobody reads"):
        logbook.opening(tmp_path / "train.log", append=False).__enter__()
    with pytest.raises(UserError, match=r"metrics.jsonl: it is a pipe"):
        metrics.writing(tmp_path, False, False, 0).__enter__()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "large"])
def test_a_folder_of_logs_whose_owner_cannot_be_read_is_another_s(tmp_path, kind):
    from mxnet_resnet.runs import logbook

    folder = tmp_path / "log/net"
    folder.mkdir(parents=True)
    owner = folder / logbook.OWNER
    if kind == "pipe":
        os.mkfifo(owner)
    elif kind == "folder":
        owner.mkdir()
    elif kind == "link":
        owner.symlink_to("nowhere")
    else:
        owner.touch()
        os.truncate(owner, 2**27)
    assert logbook.find_folder(tmp_path / "log", str(tmp_path / "net")) == tmp_path / "log/net-2"


def test_a_log_behind_a_link_is_kept_where_it_lies(tmp_path):
    from mxnet_resnet.runs import logbook

    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.log").write_text("before\n")
    (tmp_path / "train.log").symlink_to("far/a.log")
    with logbook.opening(tmp_path / "train.log", append=False):
        pass
    assert Path(os.readlink(tmp_path / "train.log")) == Path("far/a.log")
    assert sorted(path.read_text() for path in (tmp_path / "far").iterdir()) == ["", "before\n"]
