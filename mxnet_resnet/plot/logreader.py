"""Training logs in: ours, as text and as JSON lines, the MXNet ResNet-v2 repository's, ``Module.fit``'s (old and new
Speedometer) and GluonCV's for CIFAR and ImageNet. All epochs count from 0, as in the logs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mxnet_resnet.base.errors import UserError

FOLDER_LOGS = ("train.log", "metrics.jsonl")  # ours lie in LOG_DIR/RUN, and are called RUN
PHASES = ("train", "validation")


@dataclass
class Epoch:
    """What a log tells of one epoch.

    Attributes:
        train, validation: errors in percent, as ``"top1"`` and ``"top5"``, other metrics as logged.
        seconds: what its training took.
        rate: the learning rate that it began with.
        speed: of its training, in images/s.
        wait: seconds of its training spent waiting for data.
    """

    train: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    rate: float | None = None
    speed: float | None = None
    wait: float | None = None


@dataclass
class Run:
    """A run, read. Where it was restarted from an earlier epoch, the later lines stand.

    Attributes:
        images: those trained on in an epoch, where the log tells.
        parameters: their number in the net, where the log tells.
        deviations: of a run that is the mean of several: the sample standard deviation, by phase, metric and epoch.
    """

    name: str
    epochs: dict[int, Epoch] = field(default_factory=dict)
    images: int | None = None
    parameters: int | None = None
    deviations: dict[tuple[str, str, int], float] = field(default_factory=dict)

    def curve(self, phase: str, metric: str = "top1") -> list[tuple[int, float]]:
        """The (epoch, value) pairs of ``"train"`` or ``"validation"`` in the order of the epochs, if finite."""
        points = ((number, getattr(epoch, phase).get(metric)) for number, epoch in sorted(self.epochs.items()))
        return [(number, value) for number, value in points if value is not None and math.isfinite(value)]

    def metrics(self) -> list[str]:
        """The metrics of which there is a curve, the errors first."""
        names = {name for epoch in self.epochs.values() for phase in PHASES for name in getattr(epoch, phase)}
        order = sorted(names, key=lambda name: (ERRORS.index(name) if name in ERRORS else len(ERRORS), name))
        return [name for name in order if any(self.curve(phase, name) for phase in PHASES)]

    def rate_steps(self) -> list[tuple[int, float]]:
        """The (epoch, learning rate) pairs where the rate jumps; one that changes each epoch, as by a cosine, glides.

        An epoch of which none is told has the rate of the one before; that of the first ones may be unknown.
        """
        told = [(number, epoch.rate) for number, epoch in sorted(self.epochs.items()) if epoch.rate]
        if told and told[0][0] > min(self.epochs):  # the first line about it tells of a change
            told.insert(0, (min(self.epochs), math.inf))
        changes = told[:1] + [now for before, now in zip(told, told[1:]) if now[1] != before[1]]
        ends = [number for number, _ in changes[1:]] + [max(self.epochs) + 1]
        lasting = [end - number for (number, _), end in zip(changes, ends)]
        return [
            changes[i]
            for i in range(1, len(changes))
            if not 0.7 < changes[i][1] / changes[i - 1][1] < 1.5 and max(lasting[i - 1 : i + 1]) > 1
        ]


def read(path: Path) -> Run:
    """The last run in a training log. Raises UserError as ``read_all`` does."""
    return read_all(path)[-1]


def read_all(path: Path) -> list[Run]:
    """The runs in a training log; of more than one, the names are numbered.

    Lines that go back to epoch 0 begin another run where other arguments stand before them; else the run was restarted.
    Raises UserError where the file cannot be read or no epoch is in it.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read log {path}: {error.strerror}") from error
    except ValueError as error:  # a name with a null byte
        raise UserError(f"cannot read log {str(path)!r}: {error}") from error
    runs = _Reader(_name(path)).read(_whole_lines(text))
    if not runs:
        raise UserError(f"{path} has no curve in it: no line of it is one of an MXNet training log")
    return runs


def _name(path: Path) -> str:
    """What to call a log: the folder's name for our LOG_DIR/RUN/train.log, else the file's."""
    return path.resolve().parent.name if path.name in FOLDER_LOGS else path.stem


def _whole_lines(text: str) -> list[str]:
    """The lines, without a last one that was cut off: where nothing ends it, it has to end as ``%f`` or an object does,
    for 0.9 may have been 0.952927.
    """
    lines = text.splitlines()
    cut = lines and not text.endswith(("\n", "\r")) and not re.search(r"\.\d{6}$|\}$", lines[-1])
    return lines[:-1] if cut else lines


_EPOCH_NUMBER = r"(\d{1,9})"
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)"
_METRIC = re.compile(rf"([\w-]+)=({_NUMBER})(?=\s|$)")
_SPEED = "images/s"  # kept beside the metrics of a batch


class _Reader:
    """Goes through the lines of a log; the training metrics of batches stand in where an epoch's own are missing.

    Where the lines go back to an epoch, the run was restarted there, and what stood from that epoch on is forgotten.
    """

    def __init__(self, name: str):
        self.name = name
        self.runs: list[Run] = []
        self.header: str | None = None  # arguments told since the last line of an epoch
        self.run_header: str | None = None
        self.rate: float | None = None  # told for the next line of an epoch
        self.counts: dict[str, int] = {}  # told for the run whose lines follow
        self.batches: dict[int, dict[tuple[int, str], float]] = {}

    def read(self, lines: Iterable[str]) -> list[Run]:
        for line in lines:
            self._line(line)
        self._finish()
        if len(self.runs) > 1:
            for number, run in enumerate(self.runs, 1):
                run.name = f"{self.name} ({number})"
        return self.runs

    def _line(self, line: str) -> None:
        if line.startswith("{"):
            self._object(line)
            return
        for pattern, told in _LINES:
            if match := pattern.search(line):
                told(self, match)
                return

    def _epoch(self, number: int, validated: bool = False) -> Epoch:
        """The epoch that a line is about; a validation may come again without its training."""
        self._begin_run(number)
        run = self.runs[-1]
        if run.epochs and number < max(run.epochs):
            self._forget(number + 1 if validated and number in run.epochs else number)
        if number not in run.epochs:  # a rate that changes within an epoch is that of the next one
            run.epochs[number], self.rate = Epoch(rate=self.rate), None
        return run.epochs[number]

    def _begin_run(self, number: int) -> None:
        header, self.header = self.header, None
        others = header is not None and header != self.run_header and "resume=True" not in header
        if not self.runs or (number == 0 and others):
            self._finish()
            self.runs.append(Run(self.name))
            self.run_header = header
        vars(self.runs[-1]).update(self.counts)
        self.counts = {}

    def _finish(self) -> None:
        """Sum up the batches of the run that ends."""
        for number, batches in self.batches.items():
            epoch = self.runs[-1].epochs[number]
            for name in {name for _, name in batches} - epoch.train.keys():
                values = [value for (_, metric), value in batches.items() if metric == name]
                if name == _SPEED:  # of equal numbers of images, so that times are to be averaged
                    epoch.speed = epoch.speed or len(values) / sum(1 / value for value in values)
                else:
                    epoch.train[name] = sum(values) / len(values)
        self.batches = {}

    def _forget(self, first: int) -> None:
        epochs = self.runs[-1].epochs
        for later in [number for number in epochs if number >= first]:
            del epochs[later]
            self.batches.pop(later, None)

    def _arguments(self, match: re.Match) -> None:
        self.header = match[1]
        if rate := re.search(rf"\blr=({_NUMBER})", match[1]):
            self.rate = float(rate[1])
        if images := re.search(r"\bnum_examples=(\d{1,12})\b", match[1]):
            self.counts["images"] = int(images[1])

    def _counted(self, match: re.Match) -> None:
        self.counts["images"] = int(match[1])

    def _sized(self, match: re.Match) -> None:
        self.counts["parameters"] = int(match[1])

    def _changed_rate(self, match: re.Match) -> None:
        self.rate = float(match[1])

    def _began(self, match: re.Match) -> None:
        epoch = self._epoch(int(match[1]))
        if epoch.train or epoch.validation:  # begun again
            self._forget(int(match[1]))
            epoch = self._epoch(int(match[1]))
        epoch.rate = float(match[2])

    def _batch(self, match: re.Match) -> None:
        number, batch, metrics = int(match[1]), int(match[2]), _metrics(match[4])
        epoch = self._epoch(number)
        rate = metrics.pop("lr", None)
        before = self.batches.get(number, {})
        repeated = any((batch, name) in before for name in metrics)
        if repeated or any(batch < earlier for earlier, _ in before):
            rate = rate if epoch.rate is None else epoch.rate
            self._forget(number)
            epoch = self._epoch(number)
            before = {key: value for key, value in before.items() if key[0] < batch}
        epoch.rate = rate if epoch.rate is None else epoch.rate
        self.batches[number] = {**before, **{(batch, name): value for name, value in metrics.items()}}
        speed = float(match[3])
        if 0 < speed < math.inf:
            self.batches[number][batch, _SPEED] = speed

    def _trained(self, match: re.Match) -> None:
        self._epoch(int(match[1])).train.update(_metrics(match[2]))

    def _validated(self, match: re.Match) -> None:
        self._epoch(int(match[1]), validated=True).validation.update(_metrics(match[2]))

    def _timed(self, match: re.Match) -> None:
        self._epoch(int(match[1])).seconds = float(match[2])

    def _waited(self, match: re.Match) -> None:
        self._epoch(int(match[1])).wait = float(match[2])

    def _gluoncv_cifar(self, match: re.Match) -> None:
        epoch = self._epoch(int(match[1]))
        epoch.train.update(top1=_error(float(match[2])), loss=float(match[4]))
        epoch.validation.update(top1=_error(float(match[3])))
        epoch.seconds = float(match[5])

    def _gluoncv_speed(self, match: re.Match) -> None:
        epoch = self._epoch(int(match[1]))
        epoch.speed, epoch.seconds = float(match[2]), float(match[3])

    def _object(self, line: str) -> None:
        """A line of metrics.jsonl; what is none is passed over."""
        try:
            found = json.loads(line, parse_int=float)
        except (ValueError, RecursionError):
            return
        number, metrics = found.get("epoch"), found.get("metrics")
        if not isinstance(number, float) or not 0 <= number < 1e9 or not isinstance(metrics, dict):
            return
        values = dict(_named(name, value) for name, value in metrics.items() if isinstance(value, float))
        if found.get("phase") == "validation":
            self._epoch(int(number), validated=True).validation.update(values)
        elif found.get("phase") == "train":
            self._trained_object(int(number), values, found)

    def _trained_object(self, number: int, values: dict[str, float], found: dict[str, object]) -> None:
        if self._epoch(number).train:  # trained again
            self._forget(number)
        epoch = self._epoch(number)
        epoch.train.update(values)
        told = {name: value for name, value in found.items() if isinstance(value, float) and math.isfinite(value)}
        epoch.seconds, epoch.rate = told.get("seconds"), told.get("lr")
        epoch.speed, epoch.wait = told.get("images_per_second"), told.get("data_wait")
        run = self.runs[-1]
        run.images = max(run.images or 0, int(told.get("images", 0))) or None  # a resumed epoch counts the rest alone


_LINES = [
    (
        re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Batch \[(?:\d+-)?(\d{{1,9}})\]\s+Speed: ({_NUMBER}) samples/sec\s+(.*)"),
        _Reader._batch,
    ),
    (re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Train-(.*)"), _Reader._trained),
    (re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Validation-(.*)"), _Reader._validated),
    (re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Time cost=({_NUMBER})"), _Reader._timed),
    (re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Data wait=({_NUMBER})"), _Reader._waited),
    (re.compile(rf"Epoch\[{_EPOCH_NUMBER}\] Learning rate=({_NUMBER})"), _Reader._began),
    (
        re.compile(rf"\[Epoch {_EPOCH_NUMBER}\] train=({_NUMBER}) val=({_NUMBER}) loss=({_NUMBER}) time: ({_NUMBER})"),
        _Reader._gluoncv_cifar,
    ),
    (re.compile(rf"\[Epoch {_EPOCH_NUMBER}\] training: (.*)"), _Reader._trained),
    (re.compile(rf"\[Epoch {_EPOCH_NUMBER}\] validation: (.*)"), _Reader._validated),
    (
        re.compile(rf"\[Epoch {_EPOCH_NUMBER}\] speed: ({_NUMBER}) samples/sec\s+time cost: ({_NUMBER})"),
        _Reader._gluoncv_speed,
    ),
    (re.compile(rf"Change learning rate to ({_NUMBER})"), _Reader._changed_rate),
    (re.compile(r"(\d{1,12}) training images in "), _Reader._counted),
    (re.compile(r"root:(\d{1,12}) parameters"), _Reader._sized),
    (re.compile(r"Namespace\((.*)\)"), _Reader._arguments),
]

ERRORS = ("top1", "top5")  # our names, in percent
_WORDS = re.compile(r"top[-_ ]?k|top|err(?:or)?|acc(?:uracy)?|[15]|[^-_ ]+")
_ERROR_WORDS, _ACCURACY_WORDS, _RANK_WORDS = {"err", "error"}, {"acc", "accuracy"}, {"top", "top_k", "top-k", "topk"}


def _metrics(text: str) -> dict[str, float]:
    """``"Train-accuracy=0.25 lr=0.1"`` as ``{"top1": 75.0, "lr": 0.1}``."""
    return dict(_named(name, float(value)) for name, value in _METRIC.findall(text))


def _named(name: str, value: float) -> tuple[str, float]:
    """A metric by our name: errors of any spelling (``top1-err``, ``err-top5``, ``acc``, ``top_k_accuracy_5``)."""
    name = name.removeprefix("Train-").removeprefix("Validation-")
    words = _WORDS.findall(name.lower())
    kinds, ranks = {*words} & (_ERROR_WORDS | _ACCURACY_WORDS), {*words} & {"1", "5"}
    if len(kinds) != 1 or len(ranks) > 1 or {*words} - kinds - ranks - _RANK_WORDS:
        return (f"logged {name}" if name in ERRORS else name), value
    return f"top{''.join(ranks) or '1'}", 100 * value if kinds <= _ERROR_WORDS else _error(value)


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)
