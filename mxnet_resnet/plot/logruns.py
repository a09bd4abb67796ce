"""What the lines of a log come to: runs, with the metrics of each epoch."""

from __future__ import annotations

import bisect
import heapq
import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mxnet_resnet.plot import logmetrics, logstreams
from mxnet_resnet.plot.loglines import IMAGES, RATE, SECONDS, SPEED, WAIT, Event, Item, Stage, Told
from mxnet_resnet.plot.logmetrics import Metrics
from mxnet_resnet.plot.logstreams import Part
from mxnet_resnet.plot.run import Epoch, Run

_MOST_TOLD = 3  # restarts that are told one by one
_CHANGED = "@changed"  # a learning rate told before the epoch that it is of
Key = tuple[int, Stage, int, str]  # epoch, stage, batch, name


@dataclass
class _Layer:
    """Figures that lines told together, each by every worker; of a log that lists one metric behind another, one."""

    figures: dict[int, dict[Key, list[float]]] = field(default_factory=dict)  # by the epoch
    later: list[int] = field(default_factory=list)  # its epochs as a heap, the last on top

    def add(self, key: Key, value: float) -> None:
        if key[0] not in self.figures:
            heapq.heappush(self.later, -key[0])
        self.figures.setdefault(key[0], {}).setdefault(key, []).append(value)

    def forget(self, start: tuple[int, Stage, int]) -> list[int]:
        """Drop figures from ``start`` on: the epochs whose validation was among them."""
        lost = set()
        while self.later and -self.later[0] >= start[0]:
            epoch = -self.later[0]
            gone = [key for key in self.figures[epoch] if key[:3] >= start]
            lost |= {epoch for key in gone if key[1] == Stage.VALIDATED}
            for key in gone:
                del self.figures[epoch][key]
            if self.figures[epoch]:
                break
            del self.figures[epoch]
            heapq.heappop(self.later)
        return sorted(lost)


@dataclass
class _Draft:
    """A run while it is put together; the arguments are one text, or none."""

    run: Run
    arguments: Sequence[str]
    layers: list[_Layer] = field(default_factory=list)
    owners: dict[tuple[Stage, str], int] = field(default_factory=dict)  # the places of the layers that tell a name
    restarts: list[tuple[int, int, list[int]]] = field(default_factory=list)  # line, epoch, validations left out
    crowds: list[tuple[int, int, int]] = field(default_factory=list)  # workers, first and last line


def build(name: str, items: Sequence[Item]) -> list[Run]:
    """The runs of one worker's lines; of more than one, the names are numbered."""
    told = [item for item in items if isinstance(item, Told)]
    headers = [item.line for item in told if item.arguments is not None]
    rates = [(item.line, item.rate) for item in told if item.rate is not None]
    drafts: list[_Draft] = []
    lines = [item.line for item in told]
    taken = 0  # of what was told
    events = [item for item in items if isinstance(item, Event)]
    for part in logstreams.split(events, headers):
        first, last = part.events[0], part.events[-1]
        passed, taken = told[taken : bisect.bisect_right(lines, last.line)], bisect.bisect_right(lines, last.line)
        arguments = [str(item.arguments) for item in passed if item.arguments is not None and item.line <= first.line][
            -1:
        ]
        if not drafts or (first.epoch == 0 and _are_others(arguments, drafts[-1].arguments)):
            drafts.append(_Draft(Run(name), arguments))
        for item in passed:
            vars(drafts[-1].run).update(item.counts)
        _note_rates(part.events, rates)
        _take(drafts[-1], part)
    for number, draft in enumerate(drafts, 1):
        _sum_up(draft, any(item.mixup for item in told))
        if len(drafts) > 1:
            draft.run.name = f"{name} ({number})"
    return [draft.run for draft in drafts]


def _are_others(arguments: Sequence[str], before: Sequence[str]) -> bool:
    return bool(arguments) and arguments != before and "resume=True" not in arguments[0]


def _note_rates(events: Sequence[Event], rates: list[tuple[int, float]]) -> None:
    """Give each (line, rate) to the epoch that began next. Changes the events, and takes from ``rates``."""
    begun: set[int] = set()
    for event in events:
        if event.epoch not in begun:
            while rates and rates[0][0] < event.line:
                event.figures[_CHANGED] = rates.pop(0)[1]
        begun.add(event.epoch)


def _take(draft: _Draft, part: Part) -> None:
    """Add what a start of the training tells. Of what was told before, the run went back, and the later lines stand."""
    names, first, last = part.names(), part.events[0], part.events[-1]
    places = [draft.owners[name] for name in names if name in draft.owners]
    layer = draft.layers[min(places)] if places else _Layer()
    if not places:
        draft.layers.append(layer)
    elif lost := layer.forget(_restart(layer, part.events)):
        draft.restarts.append((first.line, first.epoch, lost))
    for told in names:
        draft.owners.setdefault(told, min(places, default=len(draft.layers) - 1))
    if part.workers > 1:
        draft.crowds.append((part.workers, first.line, last.line))
    for event in part.events:
        for name, value in event.figures.items():
            stage = Stage.BEGUN if name == _CHANGED else event.stage
            layer.add((event.epoch, stage, event.batch, name), value)


def _restart(layer: _Layer, events: Sequence[Event]) -> tuple[int, Stage, int]:
    """From where on what was told before is void: an epoch that was not trained to its end may have gone on."""
    first = next((event for event in events if event.stage != Stage.BEGUN), events[0])
    if events[0].stage == Stage.BEGUN and any(
        stage >= Stage.TRAINED for _, stage, _, _ in layer.figures.get(first.epoch, ())
    ):
        return first.epoch, Stage.BEGUN, 0
    return first.epoch, first.stage, first.batch


def _sum_up(draft: _Draft, mixup: bool) -> None:
    """Make the epochs of the run from the figures of all layers."""
    run = draft.run
    figures: dict[Key, list[float]] = {}
    for layer in draft.layers:
        for of_epoch in layer.figures.values():
            figures.update(of_epoch)
    run.notes += [*_tell_crowds(draft.crowds), *_tell_restarts(draft.restarts), *_tell_within(figures)]
    batches: dict[int, dict[str, list[float]]] = {}
    for (number, stage, _, name), values in sorted(figures.items(), key=_place):
        epoch = run.epochs.setdefault(number, Epoch())
        if name == IMAGES:  # a resumed epoch counts the rest alone
            run.images = max(run.images or 0, int(values[-1])) or None
        elif stage == Stage.BATCH:
            batches.setdefault(number, {}).setdefault(name, []).append(_mean(values))
        elif name in _ATTRIBUTES:
            setattr(epoch, _ATTRIBUTES[name], values[-1] if name in (RATE, _CHANGED) else _mean(values))
        else:
            (epoch.validation if stage == Stage.VALIDATED else epoch.train)[name] = _mean(values)
    for number, found in batches.items():
        _add_times(run.epochs[number], found.pop(RATE, []), found.pop(SPEED, []))
    _name_metrics(run, {number: {k: _mean(v) for k, v in found.items()} for number, found in batches.items()}, mixup)


def _place(found: tuple[Key, list[float]]) -> tuple:
    """An order in which the last validation of an epoch is behind those within."""
    number, stage, batch, name = found[0]
    return number, stage, batch if batch or stage != Stage.VALIDATED else math.inf, name


def _tell_crowds(crowds: Sequence[tuple[int, int, int]]) -> list[str]:
    """A sentence on lines of several workers, one for all their starts where these are many."""
    if len(crowds) > _MOST_TOLD:
        crowds = [(max(crowds)[0], min(first for _, first, _ in crowds), max(last for _, _, last in crowds))]
    return [
        f"lines {first} to {last} are taken for those of {workers} workers, and the mean is drawn of them"
        for workers, first, last in crowds
    ]


def _tell_restarts(restarts: Sequence[tuple[int, int, list[int]]]) -> list[str]:
    """A sentence on each restart that replaced validations, or one on all where these are many."""
    if len(restarts) > _MOST_TOLD:
        lost = sorted({epoch for _, _, epochs in restarts for epoch in epochs})
        where = f"the log goes back {len(restarts)} times, first in line {restarts[0][0]}"
        return [f"{where}: of the lines before, the validation of {logmetrics.epochs(lost)} is left out"]
    return [
        f"line {line} goes back to epoch {epoch}: of the lines before, the validation of {logmetrics.epochs(lost)} "
        "is left out"
        for line, epoch, lost in restarts
    ]


def _tell_within(figures: Collection[Key]) -> list[str]:
    """A sentence on validations within epochs, which others follow."""
    there = {(number, batch) for number, stage, batch, _ in figures if stage == Stage.VALIDATED}
    within = len(there) - len({number for number, _ in there})
    return [f"of an epoch's validations the last is drawn, and {within} within epochs are left out"] if within else []


_ATTRIBUTES = {SECONDS: "seconds", SPEED: "speed", WAIT: "wait", RATE: "rate", _CHANGED: "rate"}


def _add_times(epoch: Epoch, rates: Sequence[float], speeds: Sequence[float]) -> None:
    """Let what batches tell stand in where an epoch's own is missing."""
    if epoch.rate is None and rates:
        epoch.rate = rates[0]
    if not epoch.speed and speeds:  # of equal numbers of images, so that times are to be averaged
        epoch.speed = len(speeds) / sum(1 / speed for speed in speeds)


def _name_metrics(run: Run, batches: dict[int, dict[str, float]], mixup: bool) -> None:
    """Give the metrics our names. Those of batches stand in where an epoch's own are missing, or are NaN as some
    loops log them.
    """
    epochs = sorted(run.epochs.items())
    train = [Metrics("train", number, epoch.train) for number, epoch in epochs]
    validation = [Metrics("validation", number, epoch.validation) for number, epoch in epochs]
    means = [Metrics("batches", number, batches.get(number, {})) for number, _ in epochs]
    run.notes += logmetrics.rename([*train, *validation, *means], mixup)
    replaced: dict[str, list[int]] = {}
    for (number, epoch), own, others, mean in zip(epochs, train, validation, means):
        epoch.validation = others.values
        finite, stand_in = _finite(own.values), _finite(mean.values)
        epoch.train = {**mean.values, **own.values, **stand_in, **finite}
        for name in (own.values.keys() - finite.keys()) & stand_in.keys():
            replaced.setdefault(name, []).append(number)
    for name, numbers in replaced.items():
        where = logmetrics.epochs(numbers)
        run.notes.append(f"the training {name} of {where} is nan: the mean of the batches stands in")


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _mean(values: Sequence[float]) -> float:
    """The mean of the values that are finite, if there are any."""
    return statistics.fmean([value for value in values if math.isfinite(value)] or values)
