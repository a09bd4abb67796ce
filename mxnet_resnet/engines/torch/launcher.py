"""A process a device: PyTorch's elastic launcher, that of torchrun, runs this very command once for each."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mxnet_resnet.base.environment import cores, variable
from mxnet_resnet.base.errors import UserError

DIED = "another worker of the job has ended: start the job again with --resume"
OURS = "MXNET_RESNET_LAUNCHED"  # set for the processes that `launch` starts
SET_PARENT_DEATH_SIGNAL = 1  # of prctl, Linux alone
SHUTDOWN_SECONDS = 60  # for a last checkpoint


def launch(processes: int) -> int:
    """Run the command of this process in several, and wait for them: its status, that of the first which failed.

    SIGTERM and Ctrl-C go to all of them, which write a checkpoint. When one dies the others are ended. Raises UserError
    in the words of the one that failed first.
    """
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # we say what there is to say
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"resnet-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.2,
    )
    command = read_command()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // processes)))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SHUTDOWN_SECONDS)
    with variable(OURS, "1"), variable("OMP_NUM_THREADS", threads):
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            raise UserError(explain(error.failures)) from None
        except SignalException as end:
            return 128 + end.sigval
    return 0


def read_command() -> list[str]:
    """The command line of this process, its Python first, for another process to run."""
    words = Path("/proc/self/cmdline")
    given = words.read_bytes().split(b"\0")[:-1] if words.exists() else map(os.fsencode, sys.orig_argv)
    return [sys.executable, *map(os.fsdecode, list(given)[1:])]


def explain(failures: Mapping[int, ProcessFailure]) -> str:
    """Why a job ended, in a sentence, of the workers that failed, by their numbers."""
    told = {rank: _read_sentence(failure) for rank, failure in failures.items()}
    # The first one to fail; others may have no more to say than that another one is gone.
    rank = min(failures, key=lambda rank: (told[rank] == DIED, failures[rank].timestamp))
    if sentence := told[rank]:
        return sentence
    failure = failures[rank]
    how = f"by signal {-failure.exitcode}" if failure.exitcode < 0 else f"with status {failure.exitcode}"
    return f"worker {rank} (process {failure.pid}) ended {how}: start the job again with --resume"


def _read_sentence(failure: ProcessFailure) -> str:
    """What `record` noted of a worker's end, or nothing."""
    message = failure.message.get("message", "") if isinstance(failure.message, dict) else ""
    return message.removeprefix(f"{UserError.__name__}: ") if failure.exitcode == 2 else ""


def record(error: UserError) -> None:
    """Note what ended this worker, for the process that launched it."""
    get_error_handler().record_exception(error)


def is_ours() -> bool:
    """Whether `launch` started this process, which then need not say what ended it."""
    return OURS in os.environ


def end_with_parent() -> None:
    """Let this process be told to stop when the one that launched it dies, where the system can do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))
