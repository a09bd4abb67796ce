"""SIGTERM and Ctrl-C: a wish to stop after the batch under way, or an end that leaves nothing half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A run that ended as a signal asked; the message says where it stands."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.status = 128 + number


class Wish:
    """The signal that came, or None."""

    signal: int | None = None


@contextmanager
def watching() -> Iterator[Wish]:
    """Note the first signal; a second one acts at once, as always."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield wish
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, _) -> None:
        wish.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield wish
    finally:
        restore()


@contextmanager
def unwinding() -> Iterator[None]:
    """Within it SIGTERM raises Interrupted, so that what is half written goes, as it does after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _) -> None:
        raise Interrupted(number, f"stopped by {signal.Signals(number).name}")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
