"""Pickles from elsewhere, read without belief: nothing is called but what a subclass names, and a few bytes take
neither much memory nor much time.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

MOST_PARTS = 1000  # of a tuple with those in it; each can stand in the next one twice, and all are hashed or compared
REFUSED = (pickle.BYTEARRAY8, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)


def _weighing(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def load_tuple(unpickler: CarefulUnpickler) -> None:
        load(unpickler)
        unpickler.weigh(unpickler.stack[-1])

    return load_tuple


class CarefulUnpickler(pickle._Unpickler):
    """Reads containers, numbers and text. It is the one in Python: that in C takes the memory that a number in the file
    claims.
    """

    dispatch = {  # noqa: RUF012
        code: _weighing(load) if bytes([code]) in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3) else load
        for code, load in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in REFUSED
    }
    stack: list[Any]

    def __init__(self, file: Any, **options: Any):
        super().__init__(file, **options)
        self._weights: dict[int, tuple[int, tuple]] = {}  # the tuples too, lest another have the same number

    def weigh(self, made: tuple) -> None:
        """Raise UnpicklingError for a tuple that stands for too much."""
        weight = 1 + sum(self._weights[id(part)][0] if id(part) in self._weights else 1 for part in made)
        if weight > MOST_PARTS:
            raise pickle.UnpicklingError(f"it has a tuple of more than {MOST_PARTS:,} parts")
        self._weights[id(made)] = weight, made

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class _Nothing:
    """Stands for whatever a pickle names."""

    def __new__(cls, *_: object) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, *_: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass

    append = extend


class _Looker(CarefulUnpickler):
    def find_class(self, module: str, name: str) -> type:
        return _Nothing

    def persistent_load(self, pid: object) -> _Nothing:
        return _Nothing()


def check_pickle(file: Any) -> None:
    """Raise UnpicklingError where the pickle in an open file stands for too much; nothing of it is made."""
    try:
        _Looker(file).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can raise any
        raise pickle.UnpicklingError(str(error)[:200]) from error
