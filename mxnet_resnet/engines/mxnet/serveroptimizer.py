"""The optimizer of the servers of dist_async, and how workers describe it: in JSON, where MXNet sends a pickle."""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx

from mxnet_resnet.base.errors import UserError

LARGEST = 2**31 - 1  # of MXNet's counts and keys
MOST_TEXT = 2**25  # characters of a description: ps-lite's messages have a limit


class Rates(mx.lr_scheduler.LRScheduler):
    """A schedule as a table, as MXNet's optimizers ask for it: with the number of the update, from 1.

    Args:
        changes: (step, rate): from this step on the rate is this, in the order of the steps.
        updates_per_step: updates of a parameter in a step, one for each worker.
    """

    def __init__(self, changes: Sequence[tuple[int, float]], updates_per_step: int = 1):
        super().__init__()
        self.changes, self.updates_per_step = list(changes), updates_per_step
        self._steps = [step for step, _ in changes]

    def __call__(self, num_update: int) -> float:
        step = (num_update - 1) // self.updates_per_step
        return self.changes[max(bisect_right(self._steps, step) - 1, 0)][1]


def tabulate(schedule: Callable[[int], float], first: int, end: int) -> list[tuple[int, float]]:
    """The steps from ``first`` on, up to ``end``, at which a schedule changes, with the rates from there on."""
    changes: list[tuple[int, float]] = []
    for step in range(first, max(end, first + 1)):
        rate = float(schedule(step))
        if not changes or rate != changes[-1][1]:
            changes.append((step, rate))
    return changes


class _Summing:
    """Makes an optimizer, on the servers of dist_async, add up what is no parameter instead of updating it.

    Parameters are those that ``param_idx2name`` names.
    """

    def create_state_multi_precision(self, index: int, weight: mx.nd.NDArray) -> object:
        return super().create_state_multi_precision(index, weight) if index in self.idx2name else None

    def update_multi_precision(self, index, weight, grad, state) -> None:
        several = (value if isinstance(value, (list, tuple)) else [value] for value in (index, weight, grad, state))
        for number, stored, sent, kept in zip(*several):
            if number in self.idx2name:
                super().update_multi_precision(number, stored, sent, kept)
            else:
                stored += sent


@mx.optimizer.register
class ServerNAG(_Summing, mx.optimizer.NAG):
    """Nesterov momentum for the servers of dist_async."""


@mx.optimizer.register
class ServerSGD(_Summing, mx.optimizer.SGD):
    """Momentum for the servers of dist_async."""


KINDS = {"nag": ServerNAG, "sgd": ServerSGD}
FINITE = sys.float_info.max
NUMBERS = {"momentum": 1.0, "weight_decay": FINITE, "rescale": FINITE}  # from 0 to these
COUNTS = {"first_update": 0, "updates_per_step": 1}  # from these on


def describe(optimizer: ServerNAG | ServerSGD) -> str:
    """An optimizer as text in ASCII, from which `build` makes one that computes to the bit the same.

    Raises ValueError for one that has no such description.
    """
    kinds = [name for name, kind in KINDS.items() if type(optimizer) is kind]
    if not kinds or optimizer.multi_precision or optimizer.clip_gradient or optimizer.param_dict:
        raise ValueError(f"servers cannot be told of this optimizer: {optimizer!r}")
    schedule = optimizer.lr_scheduler or Rates([(0, optimizer.lr)])
    if not isinstance(schedule, Rates):
        raise ValueError(f"servers take a table of learning rates: {schedule!r}")
    parameters = [
        (index, name, optimizer.lr_mult.get(name, 1.0), optimizer.wd_mult.get(name, 1.0))
        for index, name in optimizer.idx2name.items()
    ]
    description = {
        "kind": kinds[0],
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.wd,
        "rescale": optimizer.rescale_grad,
        "first_update": optimizer.begin_num_update,
        "updates_per_step": schedule.updates_per_step,
        "rates": schedule.changes,
        "parameters": parameters,  # the number of the key, its name, the multiples of the rate and of the decay
    }
    text = json.dumps(description)
    build(text)
    if len(text) > MOST_TEXT:
        rates = len(schedule.changes)
        raise UserError(f"the servers of dist_async cannot be told of {rates} learning rates: take --lr-schedule steps")
    return text


def build(text: str) -> ServerNAG | ServerSGD:
    """The optimizer of a description. Raises ValueError where it is none, whoever wrote it."""
    try:
        given = json.loads(text)
    except RecursionError as error:
        raise ValueError("the description is nested too deeply") from error
    _check(isinstance(given, dict) and given.keys() == {"kind", "rates", "parameters", *NUMBERS, *COUNTS}, "fields")
    _check(isinstance(given["kind"], str) and given["kind"] in KINDS, "kind")
    for name, high in NUMBERS.items():
        _check(_is_number(given[name]) and given[name] <= high, name)
    for name, low in COUNTS.items():
        _check(_is_count(given[name]) and given[name] >= low, name)
    _check(_are_rows(given["rates"], (_is_count, _is_number)) and given["rates"], "rates")
    steps = [step for step, _ in given["rates"]]
    _check(steps == sorted(set(steps)), "rates")
    _check(_are_rows(given["parameters"], (_is_count, _is_name, _is_number, _is_number)), "parameters")
    parameters = given["parameters"]
    optimizer = KINDS[given["kind"]](
        param_idx2name={index: name for index, name, *_ in parameters},
        momentum=given["momentum"],
        wd=given["weight_decay"],
        rescale_grad=given["rescale"],
        begin_num_update=given["first_update"],
        lr_scheduler=Rates(given["rates"], given["updates_per_step"]),
    )
    optimizer.set_lr_mult({name: multiple for _, name, multiple, _ in parameters})
    optimizer.set_wd_mult({name: multiple for _, name, _, multiple in parameters})
    return optimizer


def _check(fits: object, field: str) -> None:
    if not fits:
        raise ValueError(f"the description's {field} are not what this program sends")


def _are_rows(value: Any, tests: Sequence[Callable[[Any], bool]]) -> bool:
    """Whether a value is a list of lists whose columns pass these tests."""
    return isinstance(value, list) and all(
        isinstance(row, list) and len(row) == len(tests) and all(test(cell) for test, cell in zip(tests, row))
        for row in value
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= FINITE


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_name(value: Any) -> bool:
    return isinstance(value, str)
