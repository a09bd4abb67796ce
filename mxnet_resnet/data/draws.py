"""The random numbers of an epoch: the order of its records, and what the augmentation of each is made of.

Both are functions of (seed, epoch). Those of a record are found by its number, without those of all others.
"""

from __future__ import annotations

import threading

import numpy as np

from mxnet_resnet.data.augment import DRAWS


class Draws:
    """The numbers of the augmentation in an epoch, one row a record: float32, in [0, 1).

    They are a stream of PCG64, which gives two float32 a step and can go to any of its steps at once (O'Neill 2014,
    section 4.3.1), so that no more than the row in question is there. Threads may share it, and processes a pickle.
    """

    def __init__(self, seed: int, epoch: int):
        self._key = (seed, epoch, 1)
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[Draws], tuple[int, int]]:
        return Draws, self._key[:2]

    def row(self, number: int) -> np.ndarray:
        """The numbers of a record (DRAWS,)."""
        if not hasattr(self._own, "bits"):
            self._own.bits = np.random.PCG64(np.random.SeedSequence(self._key))
            self._own.begin, self._own.generator = self._own.bits.state, np.random.Generator(self._own.bits)
        step, half = divmod(number * DRAWS, 2)
        self._own.bits.state = self._own.begin
        self._own.bits.advance(step)
        return self._own.generator.random(half + DRAWS, np.float32)[half:]

    def rows(self, count: int) -> np.ndarray:
        """Those of the first ``count`` records (records, DRAWS)."""
        return np.random.default_rng(self._key).random((count, DRAWS), np.float32)


def shuffle(seed: int, epoch: int, count: int) -> np.ndarray:
    """The numbers of ``count`` records in the order of an epoch (count,), int32 where that holds them."""
    numbers = np.arange(count, dtype=np.int32 if count <= np.iinfo(np.int32).max else np.int64)
    np.random.default_rng((seed, epoch)).shuffle(numbers)  # as permutation(count), in half of the memory
    return numbers
