"""Seeds at once through the trainer itself: a session on the CPU that repeats steps as a GPU does stands for one."""

import re
import signal

import pytest

pytest.importorskip("torch")

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.torch import capture, session
from mxnet_resnet.engines.torch.engine import TorchEngine
from mxnet_resnet.runs import entries, ledger
from mxnet_resnet.settings.run import parse, parse_runs
from mxnet_resnet.train import loop
from mxnet_resnet.train.run import train
from mxnet_resnet.train.seeds import train_seeds

SEEDS = (1, 2)


@pytest.fixture
def repeating(monkeypatch):
    """How often steps were captured, and of how many nets."""
    made = []

    def keep(pieces, streams, device):
        made.append(len(pieces))
        return lambda: capture._do_all(pieces)

    begin = session.TorchSession.__init__

    def start(self, *given):
        begin(self, *given)
        self.captures = True
        self.data_sets.validated = 0  # in the batches of the reader

    monkeypatch.setattr(capture, "capture", keep)
    monkeypatch.setattr(session.TorchSession, "__init__", start)
    monkeypatch.setattr(TorchEngine, "trains_together", lambda *given: True)
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Runs lie in the folder of the test, by the same names."""
    monkeypatch.chdir(tmp_path)


def flags(digits, *more):
    net = f"--data-type digits --depth 8 --gpus none --data-dir {digits} --data-train {digits}/digits_val.rec"
    return [*f"{net} --batch-size 30 --frequent 5 --epochs 2 --lr 0.02 --engine torch".split(), *more]


def read_runs(prefix):
    """The arrays, the validation and the log of each seed's run, but for times."""
    found = []
    for seed in SEEDS:
        own = f"{prefix}-seed{seed}"
        entry = entries.read_found(own, "0002")
        files = [entries.file(own, "0002", suffix).read_bytes() for suffix in entries.ARRAYS]
        with open(f"log/{own}/train.log") as file:
            kept = re.sub(r".*Keeping .* in memory.*\n", "", file.read())  # once for all seeds of a command
        log = re.sub(r"Speed: \S+|(Time cost|Data wait)=\S+|.*Namespace.*", "", kept).replace(prefix, "")
        found.append((files, entry.validation, log))
    return found


def train_alone(digits, prefix):
    for seed in SEEDS:
        train(parse(flags(digits, "--seed", str(seed), "--model-prefix", f"{prefix}-seed{seed}")), TorchEngine())


def test_seeds_at_once_are_those_that_are_trained_alone(digits, repeating, capsys, monkeypatch):
    train_seeds(parse_runs(flags(digits, "--seeds", "1,2", "--model-prefix", "several")), TorchEngine())
    assert repeating == [2, 1, 1]  # the steps of both, and the validations of each
    assert "| several | 2 | 2 |" in capsys.readouterr().out
    monkeypatch.setattr(session.TorchSession, "read", lambda *given: None)  # alone they read their records
    monkeypatch.setattr(session.TorchSession, "read_validation", lambda *given: None)
    train_alone(digits, "alone")
    for one, other in zip(read_runs("several"), read_runs("alone")):
        assert one[:2] == other[:2]
        kept = [line for line in one[2].splitlines() if "on the device" not in line]
        assert kept == other[2].splitlines()


def test_seeds_that_stop_go_on_at_once(digits, repeating, monkeypatch):
    given = flags(digits, "--seeds", "1,2", "--model-prefix", "several")
    begin, steps = loop.Loop._step, []

    def step(self, batch):
        steps.append(self.settings.seed)
        if len(steps) == 17:
            signal.raise_signal(signal.SIGTERM)
        return begin(self, batch)

    monkeypatch.setattr(loop.Loop, "_step", step)
    with pytest.raises(Interrupted, match="goes on with the seeds 1, 2"):
        train_seeds(parse_runs(given), TorchEngine())
    stood = [ledger.names(f"several-seed{seed}")[0] for seed in SEEDS]
    assert stood == ["0000-00009", "0000-00008"]  # the one had begun a step when the signal came
    train_seeds(parse_runs([*given, "--resume"]), TorchEngine())
    train_alone(digits, "alone")
    for one, other in zip(read_runs("several"), read_runs("alone")):
        assert one[:2] == other[:2]
