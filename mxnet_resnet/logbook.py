"""Training logs: our lines out, and the lines of any MXNet training log in.

The lines written are those of MXNet's own training loop, which existing tools parse. Those read are ours, the MXNet
ResNet-v2 repository's, ``Module.fit``'s (old and new Speedometer) and GluonCV's for CIFAR and ImageNet. All epochs
count from 0, as in the logs.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mxnet_resnet.errors import UserError

Metrics = Iterable[tuple[str, float]]


@contextmanager
def writing(path: Path, append: bool) -> Iterator[None]:
    """Send log lines to the terminal and to ``path``. Without ``append`` an older log there is kept under its date.

    Raises UserError where ``path`` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not append:
            date = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
            path.rename(path.with_name(f"{path.stem}-{date}{path.suffix}"))
        handlers = [logging.StreamHandler(sys.stderr), logging.FileHandler(path)]
    except OSError as error:
        raise UserError(f"cannot write the log {path}: {error.strerror}") from error
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        root.addHandler(handler)
    try:
        yield
    except UserError as error:
        handlers[1].emit(logging.makeLogRecord({"name": "root", "levelname": "ERROR", "msg": str(error)}))
        raise
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def write_batch(epoch: int, batch: int, speed: float, metrics: Metrics) -> None:
    """Log ``speed`` in images/s and the training metrics since the last such line."""
    for name, value in metrics:
        logging.info("Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec\tTrain-%s=%f", epoch, batch, speed, name, value)


def write_epoch(epoch: int, phase: str, metrics: Metrics) -> None:
    """Log the metrics of a whole epoch; ``phase`` is ``"Train"`` or ``"Validation"``."""
    for name, value in metrics:
        logging.info("Epoch[%d] %s-%s=%f", epoch, phase, name, value)


def write_learning_rate(epoch: int, rate: float) -> None:
    """Log the learning rate that an epoch begins with."""
    logging.info("Epoch[%d] Learning rate=%g", epoch, rate)


def write_time(epoch: int, seconds: float) -> None:
    """Log the duration of an epoch's training."""
    logging.info("Epoch[%d] Time cost=%.3f", epoch, seconds)


def write_wait(epoch: int, seconds: float) -> None:
    """Log how long an epoch's training waited for its batches; much of its time means that reading is too slow."""
    logging.info("Epoch[%d] Data wait=%.3f", epoch, seconds)


@dataclass
class Epoch:
    """What a log tells of one epoch: errors in percent, as ``"top1"`` and ``"top5"``, other metrics as logged."""

    train: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass
class Run:
    """A log, read. Where a run was restarted from an earlier epoch, the later lines stand."""

    name: str
    epochs: dict[int, Epoch] = field(default_factory=dict)

    def curve(self, phase: str, metric: str = "top1") -> list[tuple[int, float]]:
        """The (epoch, value) pairs of ``"train"`` or ``"validation"`` in the order of the epochs, without NaNs."""
        points = ((number, getattr(epoch, phase).get(metric)) for number, epoch in sorted(self.epochs.items()))
        return [(number, value) for number, value in points if value is not None and not math.isnan(value)]


_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)"
_METRIC = re.compile(rf"([\w-]+)=({_NUMBER})(?=\s|$)")
_BATCH = re.compile(r"Epoch\[(\d+)\] Batch \[(?:\d+-)?(\d+)\]\s+Speed: \S+ samples/sec\s+(.*)")
_EPOCH = re.compile(r"Epoch\[(\d+)\] (Train|Validation)-(.*)")
_TIME = re.compile(rf"Epoch\[(\d+)\] Time cost=({_NUMBER})")
_GLUONCV_CIFAR = re.compile(rf"\[Epoch (\d+)\] train=({_NUMBER}) val=({_NUMBER}) loss=({_NUMBER}) time: ({_NUMBER})")
_GLUONCV_IMAGENET = re.compile(r"\[Epoch (\d+)\] (training|validation): (.*)")
_GLUONCV_TIME = re.compile(rf"\[Epoch (\d+)\] speed: .*time cost: ({_NUMBER})")


def read(path: Path) -> Run:
    """Read a training log. Raises UserError where the file cannot be read or no epoch is in it."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise UserError(f"cannot read log {path}: {error.strerror}") from error
    run = _Reader(Run(_name(path))).read(text.splitlines())
    if not run.epochs:
        raise UserError(f"{path} has no curve in it: no line of it is one of an MXNet training log")
    return run


def _name(path: Path) -> str:
    """What to call a log: the folder's name for our LOG_DIR/RUN/train.log, else the file's."""
    return path.resolve().parent.name if path.name == "train.log" else path.stem


class _Reader:
    """Goes through the lines of a log; the training metrics of batches stand in where an epoch's own are missing.

    Where the lines go back to an epoch, the run was restarted there, and what stood from that epoch on is forgotten.
    """

    def __init__(self, run: Run):
        self.run = run
        self.batches: dict[int, dict[tuple[int, str], float]] = {}

    def read(self, lines: Iterable[str]) -> Run:
        for line in lines:
            self._line(line)
        for number, batches in self.batches.items():
            train = self.run.epochs[number].train
            for name in {name for _, name in batches} - train.keys():
                values = [value for (_, metric), value in batches.items() if metric == name]
                train[name] = sum(values) / len(values)
        return self.run

    def _epoch(self, number: int) -> Epoch:
        if self.run.epochs and number < max(self.run.epochs):
            self._forget(number)
        return self.run.epochs.setdefault(number, Epoch())

    def _forget(self, first: int) -> None:
        for later in [number for number in self.run.epochs if number >= first]:
            del self.run.epochs[later]
            self.batches.pop(later, None)

    def _line(self, line: str) -> None:
        if match := _BATCH.search(line):
            self._batch(int(match[1]), int(match[2]), _metrics(match[3]))
        elif match := _EPOCH.search(line):
            phase = self._epoch(int(match[1]))
            (phase.train if match[2] == "Train" else phase.validation).update(_metrics(match[3]))
        elif match := _GLUONCV_CIFAR.search(line):
            epoch = self._epoch(int(match[1]))
            epoch.train.update(top1=_error(match[2]), loss=float(match[4]))
            epoch.validation.update(top1=_error(match[3]))
            epoch.seconds = float(match[5])
        elif match := _GLUONCV_IMAGENET.search(line):
            epoch = self._epoch(int(match[1]))
            (epoch.train if match[2] == "training" else epoch.validation).update(_metrics(match[3]))
        elif match := _TIME.search(line) or _GLUONCV_TIME.search(line):
            self._epoch(int(match[1])).seconds = float(match[2])

    def _batch(self, number: int, batch: int, metrics: dict[str, float]) -> None:
        self._epoch(number)
        before = self.batches.get(number, {})
        repeated = any((batch, name) in before for name in metrics)
        if repeated or any(batch < earlier for earlier, _ in before):
            self._forget(number)
            self._epoch(number)
        self.batches.setdefault(number, {}).update({(batch, name): value for name, value in metrics.items()})


ERRORS = ("top1", "top5")  # our names, in percent
_ERROR_NAMES = {"top1-err": "top1", "err-top1": "top1", "top5-err": "top5", "err-top5": "top5"}
_ACCURACY_NAMES = {"accuracy": "top1", "top_k_accuracy_5": "top5"}


def _metrics(text: str) -> dict[str, float]:
    """``"Train-accuracy=0.25 lr=0.1"`` as ``{"top1": 75.0, "lr": 0.1}``."""
    result = {}
    for name, value in _METRIC.findall(text):
        name = name.removeprefix("Train-")
        if name in _ERROR_NAMES:
            result[_ERROR_NAMES[name]] = 100 * float(value)
        elif name in _ACCURACY_NAMES:
            result[_ACCURACY_NAMES[name]] = _error(value)
        else:
            result[name if name not in ERRORS else f"logged {name}"] = float(value)
    return result


def _error(accuracy: str) -> float:
    return 100 * (1 - float(accuracy))
