"""The one kind of error that a user can cause, and how a command ends."""

from __future__ import annotations

import os
import select
import sys
import traceback
from contextlib import suppress
from typing import Callable, TextIO

from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.base.names import let_be_printed
from mxnet_resnet.base.reasons import breaks_library, find_reason
from mxnet_resnet.base.workers import claim_word, is_launched

STDOUT, STDERR = 1, 2  # their descriptors
TRACEBACK = "MXNET_RESNET_TRACEBACK"  # where it is set in the environment, what ends a command is told in full


class UserError(ValueError):
    """Input that cannot be used. The message is one sentence: what, where, what was expected, what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit: status 0 (or what ``main`` returns), else that of ``report``."""
    _open_closed_streams()
    let_be_printed(sys.stdout)
    fatal: BaseException | None = None
    try:
        status = _run(main)
        for stream in _outputs():
            stream.flush()  # a disk may be full, and a reader gone, that nothing was written to before
    except SystemExit:
        raise
    except BaseException as error:
        status, fatal = report(error), error
    _drop_unwritten()
    if is_launched() or (fatal is not None and breaks_library(fatal)):
        os._exit(status)  # Python's own end aborts where what failed still holds threads of PyTorch's
    sys.exit(status)


def _run(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        return end.code


def _open_closed_streams() -> None:
    """Let what is for a closed stream (``2>&-``) go nowhere: a file opened later would have its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _outputs() -> list[TextIO]:
    """The open ones of the streams that are printed to."""
    streams = (sys.__stdout__, sys.stdout, sys.stderr)
    return [stream for stream in streams if stream is not None and not stream.closed]


def _drop_unwritten() -> None:
    """Let what a stream does not take go nowhere, lest Python complains at exit."""
    for stream in _outputs():
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def report(error: BaseException) -> int:
    """Say on standard error what ended a command, and return the status to end with: 2 after a UserError and what else
    is not our fault (base/reasons.py), 130 after Ctrl-C, 143 after SIGTERM, 141 where the reader of the output has gone
    (``| head``), 1 after what is our fault.

    Of the workers of a job on one machine the first to come here says it.
    """
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return 141
    status, words = _explain(error)
    if claim_word():
        with suppress(OSError):  # nothing can be said
            print(words, file=sys.stderr, flush=True)
    return status


def _explain(error: BaseException) -> tuple[int, str]:
    """The status to end with, and what to say."""
    if isinstance(error, Interrupted):
        return error.status, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    whole = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
    reason = str(error) if isinstance(error, UserError) else find_reason(error)
    if reason is None:
        return 1, whole
    sentence = f"error: {reason}"
    return 2, f"{whole}\n{sentence}" if os.environ.get(TRACEBACK) else sentence


def _nobody_reads() -> bool:
    """Whether it is the standard output that is broken; from then on it goes nowhere, lest Python complains at exit."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    broken = any(flags & select.POLLERR for _, flags in poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return broken
