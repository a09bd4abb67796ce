"""SIGTERM, SIGHUP, Ctrl-C and the clock: a wish to stop after the batch under way, or an end with nothing half done."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Windows knows no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNALS = (signal.SIGINT, *ENDING)


class Interrupted(BaseException):
    """An end that a signal asked for, as KeyboardInterrupt is, or the clock; the message says where a run stands.

    ``number`` is that of the signal, None for the clock, after which a command ends well.
    """

    def __init__(self, number: int | None, message: str):
        super().__init__(message)
        self.number = number
        self.status = 0 if number is None else 128 + number


class Wish:
    """The wish to stop.

    Attributes:
        signal: the one that came, or None.
        deadline: when the time is up, by time.monotonic.
    """

    signal: int | None = None
    deadline = math.inf

    @property
    def there(self) -> bool:
        """Whether there was a signal, or the time is up."""
        return self.signal is not None or time.monotonic() >= self.deadline


@contextmanager
def watching(deadline: float = math.inf) -> Iterator[Wish]:
    """Note the first signal; a second one acts at once, as always. ``deadline`` is by time.monotonic."""
    wish = Wish()
    wish.deadline = deadline
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield wish
        return
    before = {number: signal.getsignal(number) for number in _heeded(SIGNALS)}

    def note(number: int, _: object) -> None:
        wish.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        restore()


@contextmanager
def unwinding() -> Iterator[Callable[[], None]]:
    """Within it SIGTERM and SIGHUP raise Interrupted, so that what is half written goes, as it does after Ctrl-C.

    Gives a function that raises it again, for before what cannot be undone: where a signal comes while an object is
    being disposed of, Python prints what is raised and goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def raise_again() -> None:
        if received:
            raise Interrupted(received[0], f"stopped by {signal.Signals(received[0]).name}")

    def end(number: int, _: object) -> None:
        received.append(number)
        raise_again()

    before = {number: signal.signal(number, end) for number in _heeded(ENDING)}
    try:
        yield raise_again
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """The signals but for those that are ignored, as nohup has it for SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
