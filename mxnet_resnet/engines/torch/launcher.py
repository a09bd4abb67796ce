"""A process a device: PyTorch's elastic launcher, that of torchrun, runs this very command once for each."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mxnet_resnet.base import workers
from mxnet_resnet.base.environment import variable
from mxnet_resnet.base.errors import UserError

RESUME = "start the job again with --resume"
SAID = 2  # the status of a worker that has said why it ended, or knows only that another one did
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)  # of one that was told to stop, and has
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
SHUTDOWN_SECONDS = 120  # for a last checkpoint


def launch(processes: int, reason: str) -> NoReturn:
    """Run the command of this process in several, wait for them, and end by SystemExit with the status of the job.

    SIGTERM, SIGHUP and Ctrl-C go to all of them, which write a checkpoint. When one dies the others are ended.
    ``reason`` is why PyTorch computes. Raises UserError where a worker died that could not say why itself.
    """
    words = read_command()
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable()  # we say what there is to say
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resnet-")))
        stack.enter_context(variable(workers.LAUNCHER, str(os.getpid())))
        stack.enter_context(variable(workers.REASON, reason))
        stack.enter_context(variable(workers.MEETING, str(folder / "workers")))
        stack.enter_context(variable("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1"))
        # All are on this machine, whatever its name resolves to.
        stack.enter_context(variable("GLOO_SOCKET_IFNAME", os.environ.get("GLOO_SOCKET_IFNAME", LOOPBACK)))
        try:
            elastic_launch(_configure(processes, folder), words[0])(*words[1:])
        except SignalException as end:
            raise SystemExit(128 + end.sigval) from None
        except ChildFailedError as error:
            raise SystemExit(_judge(error.failures, any(folder.rglob(workers.SPEAKER)))) from None
    raise SystemExit(0)


def _configure(processes: int, folder: Path) -> LaunchConfig:
    """What the elastic launcher is told; it writes into a folder, which no other user may read or write.

    It meets its workers there. Its other way is a port that it opens to every network: it unpickles, and so runs, what
    anyone writes to it.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"resnet-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=str(folder / "launcher"),
        rdzv_configs={"store_type": "file"},
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    heeded = ["SIGTERM", "SIGINT"]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        heeded.append("SIGHUP")
    # Attributes of newer releases.
    config.signals_to_handle, config.shutdown_timeout = ",".join(heeded), SHUTDOWN_SECONDS
    return config


def read_command() -> list[str]:
    """The command line of this process, its Python first, for another process to run.

    Raises UserError where it names no program, as in a notebook.
    """
    line = Path("/proc/self/cmdline")
    if line.exists():
        words = list(map(os.fsdecode, line.read_bytes().split(b"\0")[:-1]))[1:]
    else:
        words = list(getattr(sys, "orig_argv", [sys.executable, *sys.argv]))[1:]
    program = getattr(sys.modules["__main__"], "__file__", "")
    if not Path(program).is_file() and "-c" not in words:
        raise UserError("each device gets a process that runs this program again: put it into a file")
    return [sys.executable, *words]


def _judge(failures: Mapping[int, ProcessFailure], said: bool) -> int:
    """The status of a job, from those of the workers that failed, by number; ``said``: one has told why.

    Raises UserError where none has, and one died.
    """
    statuses = [failure.exitcode for failure in failures.values()]
    if all(status in STOPPED for status in statuses):
        return statuses[0]
    if said:
        return 1 if 1 in statuses else SAID
    # The launcher ends the others by SIGTERM, so that it is the last to count.
    rank = min(failures, key=lambda rank: _rank_as_cause(failures[rank].exitcode))
    failure = failures[rank]
    how = f"by {failure.signal_name()}" if failure.exitcode < 0 else f"with status {failure.exitcode}"
    raise UserError(f"worker {rank} (process {failure.pid}) ended {how}: {RESUME}")


def _rank_as_cause(status: int) -> int:
    """How likely a worker of that status is not the one whose end ended the others: 0, or more."""
    return {SAID: 1, -signal.SIGTERM: 2, **dict.fromkeys(STOPPED, 2)}.get(status, 0)
