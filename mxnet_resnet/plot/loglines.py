"""Lines of training logs, one by one: ours, as text and as JSON, those of the MXNet ResNet-v2 repository, of
``Module.fit`` and ``FeedForward.fit`` (old and new Speedometer), and of GluonCV for CIFAR, ImageNet and Horovod.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Union


class Stage(IntEnum):
    """Of what a line tells, in the order of an epoch."""

    BEGUN, BATCH, TRAINED, VALIDATED = range(4)


SECONDS, SPEED, WAIT, RATE, IMAGES = "@seconds", "@speed", "@wait", "@rate", "@images"  # beside metrics, by their names
CIFAR_TRAIN = "train="  # of GluonCV's CIFAR scripts: an accuracy, or an RMSE with mixup


@dataclass
class Event:
    """What a line tells of an epoch: metrics by their names in the log, and SECONDS, SPEED, WAIT, RATE and IMAGES.

    ``batch`` is that of a batch, and of a validation within an epoch the last before it, else 0.
    """

    epoch: int
    stage: Stage
    figures: dict[str, float]
    batch: int = 0
    line: int = 0
    mark: str = ""

    def position(self) -> tuple[int, Stage, int]:
        """Where it stands in a run. Training and validation of an epoch end in either order; a validation that tells a
        batch stands behind that.
        """
        return self.epoch, Stage.BATCH if self.batch else min(self.stage, Stage.TRAINED), self.batch

    def names(self) -> set[tuple[bool, str]]:
        """What it tells and a run tells once in a place: its metrics, or its times where those stand alone."""
        metrics = {name for name in self.figures if not name.startswith("@")}
        return {(self.stage == Stage.VALIDATED, name) for name in metrics or self.figures}


@dataclass
class Told:
    """What a line tells of the run whose epochs follow: its arguments, learning rate, images, parameters or script."""

    arguments: str | None = None
    rate: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    mixup: bool = False
    line: int = 0
    mark: str = ""


@dataclass
class Unread:
    """A line that tells of a validation in a form that is not known."""

    line: int = 0
    mark: str = ""


Item = Union[Event, Told, Unread]

_NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
_OF_WINDOWS = r"[-+]?1\.#(?:IND|QNAN|SNAN|INF)\w*"  # NaN and infinity
_METRIC = re.compile(  # a number to its end: 0,75 and 45/50 are none
    rf"(?<![\w-])([\w-]+) ?= ?({_NUMBER}|{_OF_WINDOWS})( ?%|)(?=[]\s;)|}}\"'<\\(±]|[,.:](?![\d#])|$)", re.IGNORECASE
)
_MARK = re.compile(  # before what a line tells: Node[1], worker 1, algo-1, [1,1]<stderr>: of mpirun, 1: of srun
    r"(?:\b|_)((?:node|rank|worker|trainer|seed|algo|host|task|gpu|default)(?:\[\d+\]|[ _:=-]{0,2}\d+))"
    r"|^ *(\[\d+(?:,\d+)?\]<\w+>|\d+(?=: ))",
    re.IGNORECASE,
)
_RANK = re.compile(r"\s?\b(Rank\[\d+\])")  # behind the epoch in Horovod's scripts
_HEAD = re.compile(r"(?:DEBUG|INFO|WARNING|ERROR):\w+:|\[Epoch |\b(?:Epoch|Iter|Iteration)\[|\{\"")
_EPOCH_HEAD = re.compile(r"\[Epoch |\b(?:Epoch|Iter|Iteration)\[")
_OF_VALIDATION = [  # one behind the other
    re.compile(part, re.IGNORECASE) for part in (r"\b(?:epoch|iter)", r"\bval(?:id|idation)?\b", r"[:=(] *[\d.]")
]


def parse(number: int, line: str) -> list[Item]:
    """What a line tells, nothing if it is of something else."""
    mark, text = _marked(line)
    items = _object(text) if text.startswith('{"') else _items(text)
    if any(isinstance(item, Event) and item.stage == Stage.VALIDATED and not item.figures for item in items):
        items = [Unread()]
    for item in items:
        item.line, item.mark = number, mark
    return items


def _marked(line: str) -> tuple[str, str]:
    """The worker that a line is of, or "", and the line from where it begins, without it."""
    rank = _RANK.search(line)
    text = _RANK.sub("", line, count=1) if rank else line
    head, epoch = _HEAD.search(text), _EPOCH_HEAD.search(text)
    mark = rank or (_MARK.search(text, 0, (epoch or head).start()) if head else None)
    found = next((group for group in mark.groups() if group), "") if mark else ""
    return found, text[head.start() :] if head else text


def _items(text: str) -> list[Item]:
    for pattern, told in _LINES:
        if match := pattern.search(text):
            return told(match)
    return [Unread()] if _tells_validation(text) else []


def _tells_validation(text: str) -> bool:
    """Whether a line seems to tell of a validation of an epoch."""
    end = 0
    for pattern in _OF_VALIDATION:
        if not (found := pattern.search(text, end)):
            return False
        end = found.end()
    return True


def _metrics(text: str) -> dict[str, float]:
    """``"Train-accuracy=0.25 lr=0.1"`` as ``{"accuracy": 0.25, "lr": 0.1}``."""
    return {
        re.sub("^(?:Train|Validation)-", "", name): math.nan if "#" in value else float(value) / (100 if percent else 1)
        for name, value, percent in _METRIC.findall(text)
    }


def _begun(match: re.Match) -> list[Item]:
    return [Event(int(match[1]), Stage.BEGUN, {RATE: float(match[2])})]


def _batch(match: re.Match) -> list[Item]:
    figures = _metrics(match[4])
    if "lr" in figures:
        figures[RATE] = figures.pop("lr")
    if match[3] and 0 < float(match[3]) < math.inf:
        figures[SPEED] = float(match[3])
    return [Event(int(match[1]), Stage.BATCH, figures, int(match[2]))] if figures else []


def _trained(match: re.Match) -> list[Item]:
    figures = _metrics(match[2])
    return [Event(int(match[1]), Stage.TRAINED, figures)] if figures else []


def _validated(match: re.Match) -> list[Item]:
    return [Event(int(match[1]), Stage.VALIDATED, _metrics(match[2]))]


def _timed(*names: str) -> Callable[[re.Match], list[Item]]:
    """The numbers behind that of the epoch, by their names."""
    return lambda match: [
        Event(int(match[1]), Stage.TRAINED, {name: float(value) for name, value in zip(names, match.groups()[1:])})
    ]


def _horovod(match: re.Match) -> list[Item]:
    return [Event(int(match[1]), Stage.TRAINED, {SECONDS: float(match[2]), **_metrics(match[3])})]


def _gluoncv_cifar(match: re.Match) -> list[Item]:
    train, validation, loss, seconds = map(float, match.groups()[1:])
    number = int(match[1])
    return [
        Event(number, Stage.TRAINED, {CIFAR_TRAIN: train, "loss": loss, SECONDS: seconds}),
        Event(number, Stage.VALIDATED, {"accuracy": validation}),
    ]


def _arguments(match: re.Match) -> list[Item]:
    rate = re.search(rf"\blr=({_NUMBER})", match[1], re.IGNORECASE)
    images = re.search(r"\bnum_examples=(\d{1,12})\b", match[1])
    return [Told(match[1], float(rate[1]) if rate else None, {"images": int(images[1])} if images else {})]


def _changed_rate(match: re.Match) -> list[Item]:
    return [Told(rate=float(match[1]))]


def _counted(name: str) -> Callable[[re.Match], list[Item]]:
    return lambda match: [Told(counts={name: int(match[1])})]


def _script_of_mixup(match: re.Match) -> list[Item]:
    return [Told(mixup=True)]


def _object(line: str) -> list[Item]:
    """A line of metrics.jsonl, or one that the log of a container has in an object."""
    try:
        found = json.loads(line, parse_int=float)
    except (ValueError, RecursionError):
        return _items(line)
    if not found.keys() & {"metrics", "phase"}:
        return [item for text in found.values() if isinstance(text, str) for item in _items(text)]
    number, metrics, phase = found.get("epoch"), found.get("metrics"), found.get("phase")
    if not isinstance(number, float) or not 0 <= number < 1e9 or not isinstance(metrics, dict):
        return []
    values = {name: math.nan if value is None else value for name, value in metrics.items()}  # as NaN is written
    figures = {name: value for name, value in values.items() if isinstance(value, float)}
    if phase == "validation":
        return [Event(int(number), Stage.VALIDATED, figures)]
    if phase != "train":
        return []
    for key, name in _TIMES.items():
        if isinstance(value := found.get(key), float) and math.isfinite(value):
            figures[name] = value
    return [Event(int(number), Stage.TRAINED, figures)]


_TIMES = {"seconds": SECONDS, "lr": RATE, "images_per_second": SPEED, "data_wait": WAIT, "images": IMAGES}
_EPOCH, _GLUONCV = r"\b(?:Epoch|Iter|Iteration)\[(\d{1,9})\]", r"\[Epoch (\d{1,9})\]"
_BATCH, _SPEED = r"Batch ?\[(?:\d{1,9}-)?", rf"Speed: ({_NUMBER}) samples/s"
_LINES: list[tuple[re.Pattern, Callable[[re.Match], list[Item]]]] = [
    (re.compile(pattern, re.IGNORECASE), told)
    for pattern, told in (
        (rf"{_EPOCH}\s+{_BATCH}\d+\]\s+Time cost=({_NUMBER})\s+(Train-.*)", _horovod),
        (rf"{_EPOCH}\s+{_BATCH}(\d{{1,9}})\](?:/\[\d+\])?:?\s+(?:{_SPEED}(?:ec)?)?(.*)", _batch),
        (rf"{_EPOCH}\s+Train-(.*)", _trained),
        (rf"{_EPOCH}\s+Validation-(.*)", _validated),
        (rf"{_EPOCH}\s+Time cost=({_NUMBER})", _timed(SECONDS)),
        (rf"{_EPOCH}\s+Data wait=({_NUMBER})", _timed(WAIT)),
        (rf"{_EPOCH}\s+{_SPEED}", _timed(SPEED)),
        (rf"{_EPOCH}\s+Learning rate=({_NUMBER})", _begun),
        (rf"{_GLUONCV} train=({_NUMBER}) val=({_NUMBER}) loss=({_NUMBER}) time: ({_NUMBER})", _gluoncv_cifar),
        (rf"{_GLUONCV} training: (.*)", _trained),
        (rf"{_GLUONCV} validation: (.*)", _validated),
        (rf"{_GLUONCV} {_SPEED}ec\s+time cost: ({_NUMBER})", _timed(SPEED, SECONDS)),
        (rf"Change learning rate to ({_NUMBER})", _changed_rate),
        (r"(\d{1,12}) training images in ", _counted("images")),
        (r"root:(\d{1,12}) parameters", _counted("parameters")),
        (r"Namespace\((.*)\)", _arguments),
        (r"\btrain_mixup_cifar10\.py\b|\btrain_cifar10_mixup\.py\b", _script_of_mixup),
    )
]
