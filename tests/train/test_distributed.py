"""train_resnet.py on several workers."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time

import numpy as np
import pytest

from mxnet_resnet.plot import logreader
from tests.helpers import REPOSITORY
from tests.helpers.processes import LAUNCH, Started, descendants
from tests.helpers.runs import train_arguments

TRAIN = [sys.executable, str(REPOSITORY / "train_resnet.py")]


def train(digits, folder, *more: str) -> list[str]:
    """The command of one worker with batches of 32."""
    return [*TRAIN, *train_arguments(digits, folder, "--batch-size", "32", *more)]


def launch(digits, folder, *more: str, kind: str = "dist_sync") -> list[str]:
    """The same on two workers."""
    return [*LAUNCH, "-n", "2", "-s", "1", *train(digits, folder, "--kv-store", kind, *more)]


def pid_of(launched: Started, role: str) -> int:
    """A process of a job by its role, with the command itself rather than the shell around it."""
    for pid in descendants(launched.popen.pid):
        with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/cmdline", "rb") as command:
            if (
                f"DMLC_ROLE={role}".encode() in environ.read().split(b"\0")
                and b"python" in command.read().split(b"\0")[0]
            ):
                return pid
    raise AssertionError(f"there is no {role}")


@pytest.mark.mxnet  # whose stores these are
def test_two_workers_train_as_one_with_two_devices(start, digits, tmp_path):
    import mxnet as mx

    more = ("--epochs", "1", "--lr", "0.02")
    one_thread = {"OMP_NUM_THREADS": "1"}  # sums are rounded as they are parted
    launched = start(launch(digits, tmp_path / "two", *more), **one_thread)
    assert launched.wait() == 0, launched.text
    arguments = train_arguments(digits, tmp_path / "one", "--batch-size", "64", "--cpus", "2", *more)
    alone = start([*TRAIN, *arguments], **one_thread)
    assert alone.wait() == 0, alone.text
    for name in ("net-0001.params", "net-0001.state"):
        found, expected = (mx.nd.load(str(tmp_path / folder / "model" / name)) for folder in ("two", "one"))
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(found[key].asnumpy(), array.asnumpy(), rtol=1e-5, atol=1e-5, err_msg=key)
    runs = [logreader.read(tmp_path / "two/log/net" / name) for name in ("train.log", "train-worker1.log")]
    assert runs[0].epochs[0].validation == runs[1].epochs[0].validation
    # A whole number of the 360 images: each counted once.
    assert 3.6 * runs[0].epochs[0].validation["top1"] == pytest.approx(
        round(3.6 * runs[0].epochs[0].validation["top1"])
    )


@pytest.mark.mxnet  # whose stores these are
def test_a_job_that_is_told_to_stop_can_be_resumed(start, digits, tmp_path):
    launched = start(launch(digits, tmp_path, "--epochs", "30", "--frequent", "1"))
    launched.wait_for("Epoch[1] Batch [3]")
    launched.popen.send_signal(signal.SIGTERM)
    assert launched.wait() == 143, launched.text
    stopped = re.findall(r"Stopped by SIGTERM after (\d+) epochs and (\d+) batches", launched.text)
    assert stopped and len(set(stopped)) == 1
    resumed = start(launch(digits, tmp_path, "--epochs", "2", "--resume"))
    assert resumed.wait() == 0, resumed.text
    assert f"after {stopped[0][0]} epochs and {stopped[0][1]} batches" in resumed.text


@pytest.mark.slow
def test_dist_async_learns_and_resumes(start, digits, tmp_path):
    launched = start(launch(digits, tmp_path, "--epochs", "2", "--lr", "0.02", kind="dist_async"))
    assert launched.wait() == 0, launched.text
    (_, first), (_, second) = logreader.read(tmp_path / "log/net/train.log").curve("train")
    assert second < first
    resumed = start(launch(digits, tmp_path, "--epochs", "3", "--lr", "0.02", "--resume", kind="dist_async"))
    assert resumed.wait() == 0, resumed.text


@pytest.mark.slow
@pytest.mark.parametrize("role", ["worker", "server", "scheduler"])
def test_a_killed_job_can_be_resumed(start, digits, tmp_path, role):
    launched = start(launch(digits, tmp_path, "--epochs", "30", "--frequent", "1"))
    launched.wait_for("Epoch[1] Batch [3]")
    os.kill(pid_of(launched, role), signal.SIGKILL)
    killed = time.monotonic()
    assert launched.wait(60) == 2
    print(f"the job had ended {time.monotonic() - killed:.0f} s after the death of the {role}")
    assert launched.text.count("launch it again with --resume") == 1, launched.text
    assert f"{role} was killed (SIGKILL)" in launched.text
    resumed = start(launch(digits, tmp_path, "--epochs", "2", "--resume"))
    assert resumed.wait() == 0, resumed.text
    assert re.search(r"Resuming .* after [1-9]\d* epochs and 0 batches", resumed.text)


@pytest.mark.slow
def test_workers_that_start_from_different_weights_are_refused(start, trained, digits, tmp_path):
    import mxnet as mx

    symbol, args, auxs = mx.model.load_checkpoint(str(trained / "model/net"), 1)
    for task in (0, 1):
        args["fc1_bias"][:] = task
        mx.model.save_checkpoint(str(tmp_path / str(task)), 0, symbol, args, auxs)
    command = shlex.join(train(digits, tmp_path, "--kv-store", "dist_sync", "--retrain", "--epochs", "1"))
    each = f"{command} --load-params {tmp_path}/$DMLC_TASK_ID-0000.params"
    launched = start([*LAUNCH, "-n", "2", "-s", "1", "bash", "-c", each])
    assert launched.wait() == 2, launched.text
    assert "the workers do not start from the same" in launched.text
