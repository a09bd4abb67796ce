"""train_resnet.py in several processes on PyTorch: what they compute, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mxnet_resnet.settings.run import parse
from mxnet_resnet.train import setup
from mxnet_resnet.train.loop import training_records
from tests.helpers import REPOSITORY, runs
from tests.helpers.processes import LAUNCH, Started, descendants
from tests.helpers.stranger import find_ports

pytest.importorskip("torch")
pytest.importorskip("safetensors")

TRAIN = [sys.executable, str(REPOSITORY / "train_resnet.py")]
FAULTS = [sys.executable, str(REPOSITORY / "tests/helpers/faults.py")]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
EPOCHS = 2  # of ten steps
SHOW_WORKERS = """
import os, sys
from pathlib import Path
import torch
from mxnet_resnet.base.errors import run
from mxnet_resnet.commands.train import main
from mxnet_resnet.engines.torch.session import TorchSession

def finish(session, snapshot=TorchSession.snapshot):
    found = snapshot(session)
    weights = sum(float(array.astype("float64").sum()) for array in found.params.values())
    drawn = float(torch.rand(1))
    Path(os.environ["SHOWN"] + os.environ["RANK"]).write_text(f"{found.loss_scale} {weights!r} {drawn!r}")
    return found

TorchSession.snapshot = finish
run(main)
"""


def arguments(digits: Path, folder: Path, *more: str, devices: tuple[str, ...] = ("--cpus", "2")) -> list[str]:
    """Arguments for epochs of ten batches of 36."""
    small = ("--data-train", f"{digits}/digits_val.rec", "--batch-size", "36", "--frequent", "1", "--lr", "0.02")
    given = runs.train_arguments(digits, folder, *small, *devices, "--epochs", str(EPOCHS), *more)
    return [*given, "--engine", "torch"]


@pytest.fixture
def begin(start):
    """Start a command with a thread a process."""
    return lambda command, **environment: start(command, OMP_NUM_THREADS="1", PYTHONPATH=str(REPOSITORY), **environment)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory) -> Path:
    """The folder of a job of two processes that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = Started([*TRAIN, *arguments(digits, folder)], folder / "output", OMP_NUM_THREADS="1")
    try:
        assert process.wait() == 0, process.text
    finally:
        process.kill()
    return folder


def find_noise(text: str) -> list[str]:
    """What a command said beside the log."""
    return [line for line in text.splitlines() if not line.startswith(("INFO:root:", "WARNING:root:"))]


def assert_none_left(folder: Path) -> None:
    """No process has a folder on its command line, at the latest some seconds from now."""
    for _ in range(50):
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        if str(folder) not in listed:
            return
        time.sleep(0.1)
    pytest.fail(f"still there:\n{listed}")


def find_worker(launched: Started, rank: int) -> int:
    """The process of a worker."""
    for pid in descendants(launched.popen.pid):
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return pid
    raise AssertionError(f"there is no worker {rank}")


def test_a_job_of_ours_opens_no_port_to_others(begin, digits, tmp_path):
    """PyTorch's launcher runs what anyone writes to its port, so that ours has none."""
    launched = begin([*TRAIN, *arguments(digits, tmp_path, "--epochs", "30")])
    launched.wait_for("Epoch[0] Batch [3]")
    pids = [launched.popen.pid, *descendants(launched.popen.pid)]
    listening = {pid: [address for address, _ in find_ports(pid)] for pid in pids}
    launched.popen.terminate()
    assert listening.pop(launched.popen.pid) == []
    assert sorted(listening.values())[-2:] == [["127.0.0.1"]] * 2  # gloo's
    assert {address for addresses in listening.values() for address in addresses} == {"127.0.0.1"}
    assert launched.wait() == 143, launched.text


def test_two_processes_are_one_with_the_halves_normalised_apart(torch, digits, whole, tmp_path):
    from mxnet_resnet.engines import initial
    from mxnet_resnet.engines.graphs import emission
    from mxnet_resnet.engines.torch import nets
    from mxnet_resnet.engines.torch.optimizer import MOMENTUM, Momentum
    from mxnet_resnet.runs import checkpoint, entries

    settings = setup.share_batch(parse(arguments(digits, tmp_path)), 2)
    summaries = setup.check_records(settings, 2)
    groups = [SimpleNamespace(rank=rank, count=2, local_count=2) for rank in range(2)]
    graph = emission.emit_training(settings.net.plan, 10, image_shape=settings.data.image_shape)
    params, statistics = initial.draw(graph, graph.noted_shapes, settings.seed)
    halves = [nets.build(settings.net.plan, 10).train().to(memory_format=torch.channels_last) for _ in groups]
    for net in halves:
        nets.fill(net, {**params, **statistics})
    first, second = (nets.name_tensors(net) for net in halves)
    decayed = [first[name] for name in params if name.endswith(("_weight", "_gamma"))]
    others = [first[name] for name in params if not name.endswith(("_weight", "_gamma"))]
    optimizer = Momentum([{"params": decayed, "weight_decay": 0.0001}, {"params": others}], 0.9, nesterov=True)
    optimizer.set_rate(0.02)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are rounded as they are parted, and a net in its first steps makes much of it
    for epoch in range(EPOCHS):
        for batches in zip(*(training_records(settings, summaries, group, epoch).epoch(epoch) for group in groups)):
            for net, batch in zip(halves, batches):
                net.zero_grad()
                images = torch.tensor(batch.images).float().contiguous(memory_format=torch.channels_last)
                torch.nn.functional.cross_entropy(net(images), torch.tensor(batch.labels).long()).backward()
            first["bn_data_gamma"].data.fill_(1)  # which has no gradient, but decays until MXNet writes 1 again
            first["bn_data_gamma"].grad = torch.zeros(3)
            with torch.no_grad():
                for name in params:
                    if second[name].grad is not None:
                        first[name].grad = (first[name].grad + second[name].grad) / 2
                optimizer.step()
                for name in params:
                    second[name].copy_(first[name])
    torch.set_num_threads(threads)

    found = checkpoint.load_run(f"{whole}/model/net", entries.read(f"{whole}/model/net", f"{EPOCHS:04d}"))
    expected = {name: first[name] for name in params}
    expected |= {name: (first[name] + second[name]) / 2 for name in statistics}
    expected |= {f"momentum:{name}": optimizer.state[first[name]][MOMENTUM] for name in params}
    arrays = {**found.params, **found.statistics, **found.momentum}
    assert arrays.keys() == expected.keys() and len(arrays) > 50
    for name, array in arrays.items():
        largest = max(1.0, np.abs(array).max())
        np.testing.assert_allclose(array, expected[name].detach(), rtol=0, atol=1e-5 * largest, err_msg=name)


def test_a_job_that_is_told_to_stop_goes_on_to_the_bit(begin, digits, whole, tmp_path):
    stopped = begin([*TRAIN, *arguments(digits, tmp_path)])
    stopped.wait_for("Epoch[0] Batch [3]")
    stopped.popen.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143, stopped.text
    (noise,) = find_noise(stopped.text)
    assert re.fullmatch(r"Stopped by SIGTERM after \d epochs and [1-9] batches; --resume goes on from there", noise)
    resumed = begin([*TRAIN, *arguments(digits, tmp_path, "--resume")])
    assert resumed.wait() == 0 and not find_noise(resumed.text), resumed.text
    runs.assert_same_run(tmp_path, whole, f"{EPOCHS:04d}")
    assert_none_left(tmp_path)

    alone = begin([*TRAIN, *arguments(digits, tmp_path, "--resume", "--epochs", "3", devices=("--gpus", "none"))])
    assert alone.wait() == 0, alone.text
    assert "workers was 2, is 1" in alone.text


def test_torchrun_joins_machines_each_with_its_part_of_the_batch(begin, digits, whole, tmp_path):
    address = ["--master-addr", "127.0.0.1", "--master-port", str(_find_port())]
    given = arguments(digits, tmp_path, "--batch-size", "18", devices=("--gpus", "none"))
    command = ["--nnodes", "2", "--nproc-per-node", "1", *address, TRAIN[1], *given]
    machines = [begin([*TORCHRUN, "--node-rank", str(rank), *command]) for rank in (0, 1)]
    assert [machine.wait() for machine in machines] == [0, 0], machines[0].text + machines[1].text
    runs.assert_same_run(tmp_path, whole, f"{EPOCHS:04d}")
    logs = sorted(path.name for path in (tmp_path / "log/net").glob("*.log"))
    assert logs == ["train-worker1.log", "train.log"]


def _find_port() -> int:
    from mxnet_resnet.engines.mxnet import launcher

    return launcher._free_port()


def test_a_worker_that_is_killed_ends_the_job_in_a_sentence(begin, digits, tmp_path):
    launched = begin([*TRAIN, *arguments(digits, tmp_path, "--epochs", "30")])
    launched.wait_for("Epoch[0] Batch [3]")
    pid = find_worker(launched, 1)
    os.kill(pid, signal.SIGKILL)
    assert launched.wait(60) == 2
    assert find_noise(launched.text) == [
        f"error: worker 1 (process {pid}) ended by SIGKILL: start the job again with --resume"
    ]
    assert_none_left(tmp_path)


def test_what_all_workers_refuse_is_said_once(begin, digits, tmp_path):
    launched = begin([*TRAIN, *arguments(digits, tmp_path, "--batch-size", "35")])
    assert launched.wait() == 2
    assert find_noise(launched.text) == ["error: --batch-size 35 cannot be dealt to 2 devices: take a multiple of 2"]


def test_each_engine_refuses_the_launcher_of_the_other(begin, digits, tmp_path):
    given = arguments(digits, tmp_path, devices=("--gpus", "none"))
    of_mxnet = begin([*LAUNCH, "-n", "2", *TRAIN, *given])
    of_torch = begin([*TORCHRUN, "--nproc-per-node", "2", TRAIN[1], *given, "--engine", "mxnet"])
    assert of_mxnet.wait() == 2
    assert find_noise(of_mxnet.text) == [
        "error: tools/launch.py starts workers of MXNet: those of PyTorch are started by torchrun"
    ]
    assert of_torch.wait() == 1
    refusal = "error: torchrun starts workers of PyTorch: those of MXNet are started by tools/launch.py\n"
    assert of_torch.text.count("error: ") == of_torch.text.count(refusal) == 1
    assert not (tmp_path / "model").exists()


def test_workers_share_a_loss_scale_and_weights_but_no_dropout(begin, digits, tmp_path):
    given = "--drop-rate 0.3 --dtype float16 --mixup 0.2 --memonger --epochs 1 --batch-size 90"
    script = tmp_path / "show.py"
    script.write_text(SHOW_WORKERS)
    launched = begin(
        [sys.executable, script, *arguments(digits, tmp_path, *given.split())], SHOWN=str(tmp_path / "shown")
    )
    assert launched.wait() == 0 and not find_noise(launched.text), launched.text
    (scale, weights, drawn), (scale1, weights1, drawn1) = (
        (tmp_path / f"shown{rank}").read_text().rsplit(" ", 2) for rank in (0, 1)
    )
    assert scale == scale1 != "None" and weights == weights1 and drawn != drawn1


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "1", "0 1"])
@pytest.mark.parametrize(
    "fault",
    [
        "killed in training",
        "killed in validation",
        "killed while adding up",
        "killed while saving",
        "error",
        "error at once",
        "bug",
    ],
)
def test_whatever_happens_to_a_worker_is_said_once(begin, digits, tmp_path, fault, workers):
    launched = begin([*FAULTS, *arguments(digits, tmp_path)], FAULT=fault, WORKER=workers)
    status, noise = launched.wait(60), find_noise(launched.text)
    if fault == "killed while saving" and workers == "1":  # which saves nothing
        assert status == 0
        return
    if fault == "bug":
        assert status == 1 and noise[-1].startswith("ZeroDivisionError") and launched.text.count("Traceback") == 1
    else:
        assert status == 2 and len(noise) == 1 and noise[0].startswith("error: "), launched.text
        assert ("SIGKILL" if fault.startswith("killed") else "does not decode") in noise[0]
    assert_none_left(tmp_path)
    resumed = begin([*TRAIN, *arguments(digits, tmp_path, "--resume")])
    assert resumed.wait() == 0, resumed.text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("target", ["launcher", "group", "twice", "worker"])
def test_a_signal_ends_the_job(begin, digits, tmp_path, number, target):
    launched = begin([*TRAIN, *arguments(digits, tmp_path, "--epochs", "30")])
    launched.wait_for("Epoch[1] Batch [2]")
    pid = launched.popen.pid
    if target == "group":
        os.killpg(pid, number)
    else:
        os.kill(find_worker(launched, 1) if target == "worker" else pid, number)
    if target == "twice":
        time.sleep(0.02)
        os.kill(pid, number)
    assert launched.wait(60) in ((143, 130) if target == "worker" else (128 + number,)), launched.text
    assert_none_left(tmp_path)
    noise = find_noise(launched.text)
    assert (len(noise) == 1 and noise[0].startswith("Stopped by")) or (target == "twice" and len(noise) < 2)
    resumed = begin([*TRAIN, *arguments(digits, tmp_path, "--resume")])
    assert resumed.wait() == 0, resumed.text


@pytest.mark.slow
def test_workers_whose_launcher_is_killed_write_a_checkpoint_and_end(begin, digits, tmp_path):
    launched = begin([*TRAIN, *arguments(digits, tmp_path, "--epochs", "30")])
    launched.wait_for("Epoch[0] Batch [3]")
    launched.popen.kill()
    assert launched.wait() == -signal.SIGKILL
    for _ in range(600):
        if "Stopped by SIGTERM" in launched.text:
            break
        time.sleep(0.1)
    assert_none_left(tmp_path)
    resumed = begin([*TRAIN, *arguments(digits, tmp_path, "--resume")])
    assert resumed.wait() == 0 and "Resuming" in resumed.text, resumed.text


def test_a_program_that_is_in_no_file_cannot_run_in_several_processes():
    code = "from mxnet_resnet.engines.torch import launcher; print(launcher.read_command())"
    done = subprocess.run([sys.executable, "-"], input=code, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert "UserError: each device gets a process that runs this program again: put it into a file" in done.stderr
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert repr(code) in done.stdout.replace('"', "'") or code in done.stdout
