"""What metrics of logs mean: errors of any spelling by our names, in percent, and what cannot be one."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mxnet_resnet.plot.loglines import CIFAR_TRAIN
from mxnet_resnet.plot.run import ERRORS

_WORDS = re.compile(r"top[-_ ]?k|top|err(?:or)?|acc(?:uracy)?|[15]|[^-_ ]+")
_ERROR_WORDS, _ACCURACY_WORDS, _RANK_WORDS = {"err", "error"}, {"acc", "accuracy"}, {"top", "top_k", "top-k", "topk"}
_ROUNDING = 1e-4  # by which a share of images may lie beside 0..1
_LARGEST_RMSE = math.sqrt(2 / 10)  # between two distributions over CIFAR's 10 classes


@dataclass
class Metrics:
    """Metrics that a log tells of an epoch's phase ("train", "validation", or "batches" for the mean of these)."""

    phase: str
    epoch: int
    values: dict[str, float]


def rename(table: Sequence[Metrics], mixup: bool) -> list[str]:
    """Give metrics our names and units: sentences on what that took. Changes the values of ``table``.

    ``mixup`` is whether the log names GluonCV's script for it.
    """
    notes: list[str] = []
    aliases = {**_alias_of_cifar(table, mixup, notes), **_alias_of_metric(table)}
    for told in table:
        told.values = {aliases.get(name, name): value for name, value in told.values.items()}
    percent = _in_percent(table)
    if percent:
        shares = {told.phase for told in table if any(map(_rank, told.values))} - percent - {"batches"}
        whose = "its accuracies" if not shares else f"accuracies of {' and '.join(sorted(percent))}"
        notes.append(f"{whose} are taken for percent, for they lie above 1")
    beside: dict[str, list[int]] = {}
    for told in table:
        told.values = dict(_named(name, value, told.phase in percent) for name, value in told.values.items())
        for name in [name for name in ERRORS if not 0 <= told.values.get(name, 0) <= 100]:
            if math.isfinite(told.values[name]):
                beside.setdefault(f"{told.phase} {name}", []).append(told.epoch)
            told.values[name] = math.nan
    for what, numbers in beside.items():
        notes.append(f"{what} is no error between 0 and 100% in {epochs(numbers)}: nan is put there")
    return notes


def epochs(numbers: Sequence[object]) -> str:
    """``epoch 3``, or ``5 epochs from 3 to 9``."""
    if len(numbers) == 1:
        return f"epoch {numbers[0]}"
    return f"{len(numbers)} epochs from {numbers[0]} to {numbers[-1]}"


def _alias_of_metric(table: Sequence[Metrics]) -> Mapping[str, str]:
    """GluonCV's Horovod script calls an epoch's training metric "metric"; its batches tell which it is."""
    names = {name for told in table if told.phase == "batches" for name in told.values} - {"metric"}
    return {"metric": names.pop()} if len(names) == 1 else {}


def _alias_of_cifar(table: Sequence[Metrics], mixup: bool, notes: list[str]) -> Mapping[str, str]:
    """What GluonCV's CIFAR scripts mean by ``train=``: an accuracy, which is "accuracy", or with mixup an "rmse".

    Where the script is not named the values tell: an RMSE of 10 classes is small, and falls while the validation
    rises. Of what cannot be told this way nothing is assumed.
    """
    train, validation = _curve(table, "train", CIFAR_TRAIN), _curve(table, "validation", "accuracy")
    if not train or mixup:
        return {CIFAR_TRAIN: "rmse"}
    both = sorted(train.keys() & validation.keys())
    growth = [curve[both[-1]] - curve[both[0]] for curve in (train, validation) if both]
    together = math.prod(growth)
    if max(train.values()) > _LARGEST_RMSE or (both and together > 0):
        return {CIFAR_TRAIN: "accuracy"}
    if together < 0:
        notes.append('"train=" is taken for the RMSE of mixup, for it falls while the accuracy of validation rises')
        return {CIFAR_TRAIN: "rmse"}
    notes.append('"train=" may be an accuracy, or the RMSE of mixup: it is drawn as neither')
    return {CIFAR_TRAIN: "train"}


def _curve(table: Sequence[Metrics], phase: str, name: str) -> dict[int, float]:
    """The finite values of a metric, by the epoch."""
    found = {told.epoch: told.values.get(name, math.nan) for told in table if told.phase == phase}
    return {number: value for number, value in found.items() if math.isfinite(value)}


def _in_percent(table: Sequence[Metrics]) -> set[str]:
    """The phases whose accuracies and errors are told in percent: most lie above 1, as of a share of images none does.

    Of those that are largest if a net learns, the last accuracies and the first errors. Where none of a phase lies
    above 1, what is nearer to the other phases is taken.
    """
    largest: dict[str, list[float]] = {}
    for phase, name in sorted({(told.phase, name) for told in table for name in told.values}):
        if found := _rank(name):
            values = list(_curve(table, phase, name).values())
            half = (len(values) + 1) // 2
            largest.setdefault(phase, []).extend(values[:half] if found[1] else values[-half:])
    usual = {phase: statistics.median_low(values) for phase, values in largest.items() if values}
    percent = {phase for phase, value in usual.items() if value > 1 + _ROUNDING}
    if not percent:
        return set()
    level = statistics.median([usual[phase] for phase in percent])
    return percent | {phase for phase, value in usual.items() if abs(value - level) < abs(100 * value - level)}


def _rank(name: str) -> tuple[str, bool] | None:
    """Our name of a metric that is an error or an accuracy (``top1-err``, ``err-top5``, ``acc``), and which."""
    words = _WORDS.findall(name.lower())
    kinds, ranks = {*words} & (_ERROR_WORDS | _ACCURACY_WORDS), {*words} & {"1", "5"}
    if len(kinds) != 1 or len(ranks) > 1 or {*words} - kinds - ranks - _RANK_WORDS:
        return None
    return f"top{''.join(ranks) or '1'}", kinds <= _ERROR_WORDS


def _named(name: str, value: float, percent: bool) -> tuple[str, float]:
    """A metric by our name: errors in percent, what is none as it is."""
    found = _rank(name)
    if not found:
        return (f"logged {name}" if name in ERRORS else name), value
    ours, is_error = found
    whole = 100 if percent else 1
    if -_ROUNDING * whole <= value <= (1 + _ROUNDING) * whole:
        value = min(max(value, 0), whole)
    share = value / whole
    return ours, 100 * (share if is_error else 1 - share)
