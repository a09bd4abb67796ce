"""The one kind of error that a user can cause, and how a command ends."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from contextlib import suppress
from typing import Callable

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.base.workers import claim_word, is_launched

STDOUT = 1  # its descriptor


class UserError(ValueError):
    """Input that cannot be used. The message is one sentence: what, where, what was expected, what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit: status 0 (or what ``main`` returns), else that of ``report``."""
    try:
        status = main() or 0
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    except BaseException as error:
        status = report(error)
    if is_launched():
        _leave(status)
    sys.exit(status)


def _leave(status: int) -> None:
    """End a worker without Python's own end, which aborts where what failed still holds threads of PyTorch's."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # closed, or nobody reads
            stream.flush()
    os._exit(status)


def report(error: BaseException) -> int:
    """Say on standard error what ended a command, and return the status to end with: 2 after a UserError, 130 after
    Ctrl-C, 143 after SIGTERM, 141 where the reader of the output has gone (``| head``), 1 after what is our fault.

    Of the workers of a job on one machine the first to come here says it.
    """
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return 141
    status, words = _explain(error)
    if claim_word():
        print(words, file=sys.stderr)
    return status


def _explain(error: BaseException) -> tuple[int, str]:
    """The status to end with, and what to say."""
    if isinstance(error, Interrupted):
        return error.status, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    reason = error if isinstance(error, UserError) else isinstance(error, OSError) and _of_system(error)
    if reason:
        return 2, f"error: {reason}"
    return 1, "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def _of_system(error: OSError) -> str | None:
    """What a user can do about an error of the system; None where it is our fault."""
    if isinstance(error, BrokenPipeError):
        return "nobody reads what is written any more"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {error.filename} is too long"
    return None


def _nobody_reads() -> bool:
    """Whether it is the standard output that is broken; from then on it goes nowhere, lest Python complains at exit."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    broken = any(flags & select.POLLERR for _, flags in poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return broken
