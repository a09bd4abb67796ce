"""What the workers of a job tell each other, through the kvstore that sums their gradients."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence

import mxnet as mx
import numpy as np

from mxnet_resnet.engines.mxnet.cluster import is_distributed
from mxnet_resnet.engines.mxnet.serveroptimizer import ServerSGD

BASE, DIGITS, FRACTION_BITS = 2**12, 9, 40

Arrays = Mapping[str, mx.nd.NDArray]


class KVStoreGroup:
    """The workers that share a kvstore (base.Group); with a store of one process all of this is trivial.

    Every method is for all workers together: each has to call it, in the same order (but ``should_stop`` under
    dist_async).
    Under dist_async the servers hand all that they get to the optimizer, which has to be ServerNAG or ServerSGD.

    Attributes:
        kvstore, store: the kvstore, and its name.
        rank, count: the number of this worker, from 0, and of all.
        local_rank, local_count: 0 and 1, since one worker has all devices of its share.
        alone: whether the store is for one process only.
        asynchronous: whether the servers update the parameters whenever a gradient comes in.
        next_key: the number that the store gives to the next key: Module's first parameter, when the optimizer is
            installed, and the first index of ``param_idx2name``.
    """

    def __init__(self, kvstore: mx.kvstore.KVStore):
        self.kvstore, self.store, self.rank, self.count = kvstore, kvstore.type, kvstore.rank, kvstore.num_workers
        self.local_rank, self.local_count = 0, 1
        self.alone = not is_distributed(kvstore.type)
        self.asynchronous = kvstore.type == "dist_async"
        self.next_key = 0
        self._numbers = itertools.count()
        self._sums: dict[int, str] = {}
        self._stops: mx.nd.NDArray | None = None
        if self.asynchronous:
            kvstore.set_optimizer(ServerSGD(param_idx2name={}))  # until the parameters have theirs, all is added up

    def barrier(self) -> None:
        """Wait until all workers are here."""
        if not self.alone:
            mx.nd.waitall()
            self.kvstore._barrier()

    def add_up(self, values: Sequence[float]) -> list[float]:
        """The values, summed over the workers: exactly where they are whole, else each rounded to 2**-40 before."""
        if self.alone:
            return list(values)
        digits = np.array([_digits(value) for value in values], np.float32)
        return [_value(summed) for summed in self._sum(digits.ravel()).reshape(digits.shape)]

    def mean(self, arrays: Arrays) -> dict[str, mx.nd.NDArray]:
        """The mean of each array over the workers, as for the BatchNorm statistics that each has of its own."""
        if self.alone or not arrays:
            return dict(arrays)
        flat = np.concatenate([array.astype(np.float32).asnumpy().ravel() for array in arrays.values()])
        means = self._sum(flat) / self.count
        ends = np.cumsum([array.size for array in arrays.values()])[:-1]
        return {
            name: mx.nd.array(part.reshape(array.shape), array.context, array.dtype)
            for (name, array), part in zip(arrays.items(), np.split(means, ends))
        }

    def settle(self, module: mx.mod.Module) -> tuple[Arrays, Arrays]:
        """The (parameters, statistics) to save or to validate with, which all workers and devices hold from now on.

        Gives BatchNorm the mean statistics, and under dist_async all the newest parameters.
        """
        mx.nd.waitall()  # BatchNorm changes its statistics in the backward pass, unseen by those who read them
        if self.alone and len(module._context) == 1:
            return module.get_params()
        group = module._exec_group
        if self.asynchronous:
            self.barrier()
            for name, arrays in zip(group.param_names, group.param_arrays):
                self.kvstore.pull(name, out=arrays)
            mx.nd.waitall()
        params, statistics = module.get_params()
        statistics = self.mean(statistics)
        for name, arrays in zip(group.aux_names, group.aux_arrays):
            for array in arrays:
                statistics[name].copyto(array)
        return params, statistics

    def any_true(self, told: bool) -> bool:
        """Whether any worker says so."""
        return self.add_up([told])[0] > 0

    def all_same(self, text: str) -> bool:
        """Whether all workers have the same text."""
        number = int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:5], "big")
        return not self.any_true(self.add_up([number])[0] != number * self.count)

    def should_stop(self, told: bool) -> bool:
        """Whether any worker had been told to stop; call it once a step.

        Unlike ``any_true`` it makes no step wait: the answer is to what was told one call before. All get it after
        the same step, but under dist_async, where steps are not shared.
        """
        if self.alone:
            return told
        if self._stops is None:
            self._stops = mx.nd.zeros(1)
            self._init(["stop"], [self._stops])
        before = self._stops.asscalar() > 0
        self.kvstore.push("stop", mx.nd.full(1, float(told)))
        self.kvstore.pull("stop", out=self._stops)
        return before

    def _init(self, keys: list[str], values: list[mx.nd.NDArray]) -> None:
        self.next_key += len(keys)
        self.kvstore.init(keys, values)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over the workers of an array of one axis, float32: servers round other types now and then.

        (They ask a switch that nobody has set, ``multi_precision_``, whether to keep a sum in float32.)
        """
        key, summed = self._sum_key(len(values)), mx.nd.zeros(len(values))
        self.kvstore.push(key, mx.nd.array(values))
        self.kvstore.pull(key, out=summed)
        if self.asynchronous:
            self.barrier()
            self.kvstore.pull(key, out=summed)
        return summed.asnumpy()

    def _sum_key(self, length: int) -> str:
        """A key for sums of so many values, at the servers. Under dist_async they only ever add to it: a new one."""
        if length not in self._sums or self.asynchronous:
            self._sums[length] = f"sum {next(self._numbers)}"
            self._init([self._sums[length]], [mx.nd.zeros(length)])
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
