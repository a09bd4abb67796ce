"""The one kind of error that a user can cause, and how a command ends."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from typing import Callable

from mxnet_resnet.base.interruption import Interrupted


class UserError(ValueError):
    """Input that cannot be used. The message is one sentence: what, where, what was expected, what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit: status 0 (or what ``main`` returns), else that of ``report``."""
    try:
        status = main() or 0
    except SystemExit:
        raise
    except BaseException as error:
        status = report(error)
    sys.exit(status)


def report(error: BaseException) -> int:
    """Say on standard error what ended a command, and return the status to end with: 2 after a UserError, 130 after
    Ctrl-C, 143 after SIGTERM, 141 where the reader of the output has gone (``| head``), 1 after what is our fault.
    """
    if isinstance(error, Interrupted):
        print(error, file=sys.stderr)
        return error.status
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return 141
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    reason = error if isinstance(error, UserError) else isinstance(error, OSError) and _of_system(error)
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    traceback.print_exception(type(error), error, error.__traceback__)
    return 1


def _of_system(error: OSError) -> str | None:
    """What a user can do about an error of the system; None where it is our fault."""
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {error.filename} is too long"
    return None


def _nobody_reads() -> bool:
    """Whether it is the standard output that is broken; from then on it goes nowhere, lest Python complains at exit."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # not a file
        return False
    broken = any(flags & select.POLLERR for _, flags in poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return broken
