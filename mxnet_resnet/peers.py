"""What the workers of a job tell each other, through the kvstore that sums their gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np

from mxnet_resnet.cluster import is_distributed

BASE, DIGITS, FRACTION_BITS = 2**12, 9, 40

Arrays = Mapping[str, mx.nd.NDArray]


@mx.optimizer.register
class ServerNAG(mx.optimizer.NAG):
    """Nesterov momentum on the servers of dist_async, which leaves alone what is no parameter: that is summed up.

    Module names the parameters in ``param_idx2name``.
    """

    def create_state_multi_precision(self, index: int, weight: mx.nd.NDArray) -> object:
        return super().create_state_multi_precision(index, weight) if index in self.idx2name else None

    def update_multi_precision(self, index, weight, grad, state) -> None:
        indices, weights, grads, states = (
            value if isinstance(value, (list, tuple)) else [value] for value in (index, weight, grad, state)
        )
        for number, stored, sent, kept in zip(indices, weights, grads, states):
            if number in self.idx2name:
                super().update_multi_precision(number, stored, sent, kept)
            else:
                stored += sent


class Peers:
    """The workers that share a kvstore; with a store of one process all of this is trivial.

    Every method is for all workers together: each has to call it, in the same order (``stop`` under dist_async apart).
    Under dist_async the servers add nothing up without an optimizer: set ServerNAG first, by ``Module.init_optimizer``.
    """

    def __init__(self, store: mx.kvstore.KVStore):
        self._store = store
        self._alone = not is_distributed(store.type)
        self._in_step = store.type != "dist_async"
        self._numbers = itertools.count()
        self._sums: dict[int, str] = {}
        self._stops: mx.nd.NDArray | None = None

    def barrier(self) -> None:
        """Wait until all workers are here."""
        if not self._alone:
            mx.nd.waitall()
            self._store._barrier()

    def total(self, values: Sequence[float]) -> list[float]:
        """The values, summed over the workers: exactly where they are whole, else each rounded to 2**-40 before."""
        if self._alone:
            return list(values)
        digits = np.array([_digits(value) for value in values], np.float32)
        return [_value(summed) for summed in self._sum(digits.ravel()).reshape(digits.shape)]

    def mean(self, arrays: Arrays) -> dict[str, mx.nd.NDArray]:
        """The mean of each array over the workers, as for the BatchNorm statistics that each has of its own."""
        if self._alone or not arrays:
            return dict(arrays)
        flat = np.concatenate([array.astype(np.float32).asnumpy().ravel() for array in arrays.values()])
        means = self._sum(flat) / self._store.num_workers
        ends = np.cumsum([array.size for array in arrays.values()])[:-1]
        return {
            name: mx.nd.array(part.reshape(array.shape), array.context, array.dtype)
            for (name, array), part in zip(arrays.items(), np.split(means, ends))
        }

    def broadcast(self, arrays: Arrays) -> None:
        """Give the arrays, float32 or float16, the values that rank 0 has. The servers keep a copy."""
        if self._alone or not arrays:
            return
        begin = next(self._numbers)
        keys, values = [f"broadcast {begin} {name}" for name in arrays], list(arrays.values())
        self._store.init(keys, values)
        self._store.pull(keys, out=values)
        mx.nd.waitall()

    def stop(self, told: bool) -> bool:
        """Whether any worker had been told to stop; call it once a step.

        The answer is to what was told one call before, so that no step waits for it: all workers get it after the same
        step. Under dist_async steps are not shared, and all get it soon.
        """
        if self._alone:
            return told
        if self._stops is None:
            self._stops = mx.nd.zeros(1)
            self._store.init("stop", self._stops)
            before = False
        else:
            before = self._stops.asscalar() > 0
        self._store.push("stop", mx.nd.full(1, float(told)))
        self._store.pull("stop", out=self._stops)
        return before

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over the workers of an array of one axis, float32: servers round other types now and then.

        (They ask a switch that nobody has set, ``multi_precision_``, whether to keep a sum in float32.)
        """
        key, summed = self._sum_key(len(values)), mx.nd.zeros(len(values))
        self._store.push(key, mx.nd.array(values))
        self._store.pull(key, out=summed)
        if not self._in_step:
            self.barrier()
            self._store.pull(key, out=summed)
        return summed.asnumpy()

    def _sum_key(self, length: int) -> str:
        """A key for sums of so many values, at the servers. Under dist_async they only ever add to it: a new one."""
        if length not in self._sums or not self._in_step:
            self._sums[length] = f"sum {next(self._numbers)}"
            self._store.init(self._sums[length], mx.nd.zeros(length))
        return self._sums[length]


def _digits(value: float) -> list[float]:
    """A number as DIGITS digits to BASE, the lowest first, in units of 2**-FRACTION_BITS.

    As many workers as BASE can sum them up in float32 without rounding. What is not finite is the first digit.
    """
    if not math.isfinite(value):
        return [value, *[0.0] * (DIGITS - 1)]
    rest, digits = round(math.ldexp(value, FRACTION_BITS)), []
    for _ in range(DIGITS - 1):
        rest, digit = divmod(rest, BASE)
        digits.append(float(digit))
    return [*digits, float(rest)]


def _value(digits: np.ndarray) -> float:
    """The number that ``_digits`` took apart, or the sum of many such."""
    if not np.isfinite(digits).all():
        return float(digits.sum())
    return sum(int(digit) * BASE**place for place, digit in enumerate(digits)) / 2**FRACTION_BITS
