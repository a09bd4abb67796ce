"""This process as a worker of a job that torchrun, or our own launcher of PyTorch's workers, started."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

LAUNCHER = "MXNET_RESNET_LAUNCHER"  # the process that is our own launcher
MEETING = "MXNET_RESNET_MEETING"  # the file by which the workers of our own launcher find each other
REASON = "MXNET_RESNET_REASON"  # why it computes with PyTorch
SPEAKER = "speaker"  # the file that holds which worker on this machine says what ended the job


def is_launched() -> bool:
    """Whether this process is one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_ours() -> bool:
    """Whether our own launcher waits for this process, and says how it died where it could not itself."""
    return LAUNCHER in os.environ


def claim_word() -> bool:
    """Take the word, where it is free; whether this process is to say what ended it.

    Of the workers of a job on one machine it is the first to ask.
    """
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not error_file:
        return True
    speaker = Path(error_file).parents[1] / SPEAKER
    try:
        with suppress(FileExistsError), speaker.open("x") as file:
            file.write(str(os.getpid()))
        return speaker.read_text() == str(os.getpid())
    except OSError:  # its launcher is gone
        return True


def end_with_launcher() -> None:
    """Let this worker be told to stop, once, when the process that started it dies."""
    parent = os.getppid()
    if is_ours() and parent != int(os.environ[LAUNCHER]):
        raise SystemExit(128 + signal.SIGTERM)  # it has died before

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
