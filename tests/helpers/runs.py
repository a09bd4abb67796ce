"""Short runs: their arguments, and how they are stopped and compared."""

import dataclasses
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np

from mxnet_resnet import engines
from mxnet_resnet.runs import checkpoint, entries
from mxnet_resnet.settings.run import parse
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.train import run as training
from mxnet_resnet.train import setup
from mxnet_resnet.train.loop import Loop

ENGINE = "mxnet"  # who computes; pytest's --engine says so
WELL = ("--batch-size", "32", "--lr-steps", "2")  # three epochs bring 2 to 6% error, whatever the rounding


def train_arguments(digits: Path, folder: Path, *more: str) -> list[str]:
    """Arguments of train_resnet.py for a small net on the digits, which writes into ``folder``."""
    net = "" if "--network" in more else "--depth 8"
    device = "" if "--cpus" in more else "--gpus none"
    arguments = f"--data-type digits {net} --data-dir {digits} {device}"
    places = ["--model-prefix", f"{folder}/model/net", "--log-dir", f"{folder}/log"]
    return [*arguments.split(), "--engine", ENGINE, *places, *more]


def arguments(digits, folder, *more: str) -> list[str]:
    """Arguments for epochs of twelve batches."""
    small = ("--data-train", f"{digits}/digits_val.rec", "--batch-size", "30", "--frequent", "5")
    return train_arguments(digits, folder, *small, *more)


def train(flags: list[str]) -> None:
    """What train_resnet.py does with these flags."""
    settings = parse(flags)
    training.train(settings, engines.choose(settings.devices.engine))


def run(digits, folder, *more: str) -> None:
    train(arguments(digits, folder, *more))


def model_of(settings, rate=0.1, contexts=None):
    """The net of a run as the MXNet engine trains it, on the devices of the settings or on these."""
    engine = engines.choose("mxnet")
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    if contexts:
        devices = dataclasses.replace(devices, handles=contexts)
    return engine.model(settings.net.plan, setup.training_spec(settings, Schedule(rate)), devices)


def begin(settings, **given):
    """A session of the run from random weights, without other workers."""
    import mxnet as mx

    from mxnet_resnet.engines.mxnet.group import KVStoreGroup

    return model_of(settings, **given).start(KVStoreGroup(mx.kvstore.create("device")), None, 0)


def stop(monkeypatch, method: str, epoch: int, batch: int = 0, number: int = signal.SIGTERM) -> None:
    """Send this process a signal when the loop comes to ``method`` there."""
    before = getattr(Loop, method)

    def stopped(loop, *arguments):
        if (loop.position.epoch, loop.position.batch) == (epoch, batch):
            os.kill(os.getpid(), number)
            monkeypatch.undo()
        return before(loop, *arguments)

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
            checkpoint.load_arrays(entries.file(f"{path}/model/net", name, suffix)) for path in (folder, other)
        )
        assert found.keys() == expected.keys()
        assert len(found) > 20
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array, err_msg=key)


def copy(folder, target) -> Path:
    """A run that may be gone on with, ``three_epochs`` stays as it is."""
    shutil.copytree(folder, target)
    return target
