"""A job of several processes: started by MXNet's dmlc_tracker, and from then on stopped and ended as one.

dmlc_tracker knows how to start processes on each kind of cluster, and what they have to know of each other. It does not
look after them: here it is given another ``subprocess``, which does.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import compat, remote
from mxnet_resnet.engines.mxnet.cluster import RESUME, address_towards, can_listen
from mxnet_resnet.engines.mxnet.hosts import Host, check_host, read_hosts
from mxnet_resnet.engines.mxnet.secret import SECRET

LAUNCHERS = ("local", "ssh", "mpi", "slurm", "sge", "yarn", "mesos", "kubernetes")
WITH_LIFELINE = ("local", "ssh")  # whose processes hear the launcher on standard input
WITH_ENVIRONMENT = ("slurm",)  # whose processes have that of the launcher
TASK = "DMLC_TASK_ID"
NUMBERED = ("worker", "server")  # the roles that several processes have
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # a worker that was told to stop, and has
FORWARDED = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGHUP: "TERM"}

# Seconds that the rest of a job has to end by itself
AFTER_A_FAILURE = 10
AFTER_A_STOP = 120  # rank 0 may be writing a large checkpoint
AFTER_THE_WORKERS = 30
FOR_LAST_LINES = 5  # of a process that has ended; what it has started may still hold the pipe

# Runs a command in a POSIX shell, passes it the signals named on standard input, and SIGTERM at its end: the launcher
# has died, or the way to it is cut. The first line is the secret of the job, which has no place where others see the
# commands. The shell's own messages (file 2) are not shown, those of the command (file 4) are.
LIFELINE = (
    f"read -r {SECRET}; export {SECRET}; "
    "exec 3<&0 4>&2 2>/dev/null; {command} </dev/null 2>&4 3<&- 4>&- & child=$!; "
    "{{ while read -r name <&3; do kill -s $name $child; done; kill -s TERM $child; }} >/dev/null 4>&- & reader=$!; "
    "exec 3<&- 4>&-; wait $child; status=$?; kill $reader; exit $status"
)


@dataclass(frozen=True)
class JobOptions:
    """A job to launch.

    Attributes:
        launcher: one of LAUNCHERS.
        num_workers, num_servers: processes; None: as many servers as workers.
        hostfile: the hosts, one a line, or None.
        host: the address of this machine for the others, or None: it is guessed.
        port: of the scheduler, or None: a free one.
    """

    launcher: str
    num_workers: int
    num_servers: int | None = None
    hostfile: str | None = None
    host: str | None = None
    port: int | None = None


def launch(options: JobOptions, passed_on: Sequence[str], command: Sequence[str]) -> int:
    """Run a job to its end, and return its status. ``passed_on`` are flags for dmlc_tracker. Raises UserError."""
    hosts = read_hosts(options.hostfile) if options.hostfile else []
    tracker_options = _tracker_options(options, passed_on, command, hosts)
    if options.port:
        _check_port(tracker_options.host_ip, options.port)
    job = Job(lifeline=options.launcher in WITH_LIFELINE)
    submit = functools.partial(_submit, options, tracker_options, hosts, job)
    with job.forwarding_signals():
        return job.run(submit)


def _tracker_options(
    options: JobOptions, passed_on: Sequence[str], command: Sequence[str], hosts: Sequence[Host]
) -> Any:
    try:
        from dmlc_tracker import opts  # which comes with MXNet
    except ModuleNotFoundError as error:
        raise UserError(compat.NOT_INSTALLED) from error
    arguments = ["--cluster", options.launcher, "--num-workers", str(options.num_workers)]
    arguments += ["--num-servers", str(options.num_servers or options.num_workers)]
    if options.hostfile:
        arguments += ["--host-file", shlex.quote(options.hostfile)]  # it goes into a shell's command of mpirun
    try:
        result = opts.get_opts([*arguments, *passed_on, "--", "command"])
    except SystemExit as error:  # argparse has said why
        raise UserError(f"dmlc_tracker does not take {shlex.join(passed_on)}") from error
    if unknown := [word for word in result.command if word.startswith("-")]:  # where unknown flags end up
        raise UserError(f"dmlc_tracker has no flag {unknown[0]}")
    result.host_ip = _scheduler_host(options, hosts)
    line = shlex.join(command)
    result.command = [LIFELINE.format(command=line) if options.launcher in WITH_LIFELINE else line]
    if options.launcher == "sge":  # dmlc_tracker reads two options here by names that they do not have
        result.jobname = result.jobname or f"resnet-{options.num_workers}"
        result.sge_log_dir = result.logdir = result.sge_log_dir or f"{result.jobname}.log"
        result.vcores = result.worker_cores
        _check_words(result)
    return result


def _scheduler_host(options: JobOptions, hosts: Sequence[Host]) -> str:
    """The address at which the others find the scheduler, which runs on this machine."""
    if options.host:
        return check_host(options.host)
    if options.launcher == "local":
        return "127.0.0.1"
    if hosts:
        return address_towards(hosts[0].name)
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        raise UserError(f"{socket.gethostname()} is {own} here, where no other machine reaches it: give --host ADDRESS")
    return own


def _check_port(host: str, port: int) -> None:
    """Raise UserError where the scheduler could not listen on a port."""
    try:
        can_listen(socket.gethostbyname(host), port)  # an address of another machine is the scheduler's to tell
    except OSError as error:
        raise UserError(f"--host {host} has no known address ({error.strerror})") from error


def _check_words(tracker_options: Any) -> None:
    """Raise UserError for a value that dmlc_tracker would put into a shell's command of qsub as it is."""
    for name in ("jobname", "queue", "sge_log_dir"):
        value = getattr(tracker_options, name)
        if not re.fullmatch(r"[\w./+][\w./+-]*", value, re.ASCII):
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {value!r} is for a shell: take letters, digits and . / + - _")


def _submit(options: JobOptions, tracker_options: Any, hosts: Sequence[Host], job: Job) -> None:
    """Have dmlc_tracker start everything; returns when the scheduler has ended."""
    from dmlc_tracker import tracker

    module = importlib.import_module(f"dmlc_tracker.{options.launcher}")
    module.subprocess = tracker.subprocess = job
    tracker.get_host_ip = lambda _=None: tracker_options.host_ip  # its own guess fails without a default route
    port = options.port or _free_port()
    tracker.PSTracker = functools.partial(tracker.PSTracker, port=port, port_end=port + 1)
    # It would take the next port where one of another address, or of a job that has just ended, has the same number.
    unbound = types.SimpleNamespace(bind=lambda _: None, close=lambda: None)
    tracker.socket = types.SimpleNamespace(**{**vars(socket), "socket": lambda *_: unbound})
    for name in compat.chosen:  # by this process for itself; each machine is to choose for its own
        del os.environ[name]
    if options.launcher == "local":
        if "DMLC_INTERFACE" not in os.environ:
            os.environ["DMLC_NODE_HOST"] = tracker_options.host_ip
        compat.share_cores(options.num_workers)
    if options.launcher in WITH_ENVIRONMENT:
        os.environ[SECRET] = job.secret
    if options.launcher == "ssh":
        (command,) = tracker_options.command
        folder = (tracker_options.sync_dst_dir or "").removeprefix("~/")  # which is quoted
        if folder:
            remote.copy_here_to(folder, hosts)
        start = remote.starter(hosts, command, folder, job.call)
        tracker.submit(options.num_workers, tracker_options.num_servers, start, tracker_options.host_ip, command)
    else:
        module.submit(tracker_options)


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("", 0))
        return trial.getsockname()[1]


@dataclass
class Process:
    """A command that dmlc_tracker had started, which may stand for many processes (mpirun)."""

    name: str
    role: str | None
    popen: subprocess.Popen
    status: int | None = None
    ended: float = field(default=math.inf)

    @property
    def failed(self) -> bool:
        return self.status not in (None, 0, *STOPPED)


class Job:
    """The processes of a job. To dmlc_tracker this is the module subprocess."""

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT
    Popen = subprocess.Popen  # questions such as `mpirun --version`

    def __init__(self, lifeline: bool):
        self.secret = secrets.token_hex(16)
        self._lifeline = lifeline
        self._processes: list[Process] = []
        self._lock = threading.Lock()
        self._closed = False
        self._error: BaseException | None = None

    def call(self, command: str, env: dict[str, str] | None = None, **_: object) -> int:
        """Run a shell command to its end. Returns 0 whatever it did: who started the job looks after that."""
        with self._lock:
            if self._closed:
                return 0
            name, role = _describe(command, env or {})
            outputs = (
                self._start_titling(name, role, (env or {}).get(TASK)) if self._lifeline else []
            )  # else it may stand for many
            popen = subprocess.Popen(
                command,
                shell=True,
                executable="/bin/bash",
                env=env,
                stdin=subprocess.PIPE if self._lifeline else subprocess.DEVNULL,
                stdout=outputs[0].stdin if outputs else None,
                stderr=outputs[1].stdin if outputs else None,
                start_new_session=True,  # Ctrl-C is for the launcher, which passes it on
            )
            if self._lifeline:
                self._write(popen, self.secret)
            for output in outputs:
                output.stdin.close()
            process = Process(name, role, popen)
            self._processes.append(process)
        status = popen.wait()
        for output in outputs:
            with suppress(subprocess.TimeoutExpired):
                output.wait(FOR_LAST_LINES)
        process.ended = time.monotonic()
        process.status = status if status >= 0 else 128 - status
        return 0

    check_call = call

    def _start_titling(self, name: str, role: str | None, task: str | None) -> list[subprocess.Popen]:
        """What takes the outputs of a process, whose lines get its role, its number in this, and its host."""
        started = sum(other.role == role for other in self._processes)
        number = task if task and role == "worker" else started  # dmlc_tracker counts servers behind the workers
        _, _, host = name.partition(" on ")
        who = f"{role} {number}" if role in NUMBERED else role or name
        title = f"[{who} on {host}] " if host and role else f"[{who}] "
        return [_start_titling(title, target) for target in (sys.stdout, sys.stderr)]

    def run(self, submit: Callable[[], None]) -> int:
        """Submit the job, wait for its end, and return its status. What does not end with the rest is killed."""
        thread = threading.Thread(target=self._run, args=[submit], daemon=True)
        thread.start()
        try:
            first = self._wait(thread)
        finally:
            self._kill()
        if isinstance(self._error, (OSError, ImportError, RuntimeError)):
            raise UserError(f"dmlc_tracker cannot start the job: {self._error}") from self._error
        if self._error:
            raise self._error
        if first is None:
            return 0
        return 2 if first.failed and _signal(first) else first.status

    def _wait(self, thread: threading.Thread) -> Process | None:
        """Wait until all have ended or the rest has had its time, and return the one that ended it for all."""
        told = None
        while True:
            going_on = thread.is_alive() or self._running()
            first, seconds = self._first_to_end()
            if first and first is not told:
                _tell(first)
                told = first
            if not going_on or (first and time.monotonic() > first.ended + seconds):
                return first
            time.sleep(0.1)

    def _run(self, submit: Callable[[], None]) -> None:
        try:
            submit()
        except BaseException as error:
            self._error = error

    def _running(self) -> list[Process]:
        return [process for process in self._processes if process.status is None]

    def _first_to_end(self) -> tuple[Process | None, float]:
        """The process whose end is to be the end of all, and the seconds that the others may take after it."""
        ended = sorted((process for process in self._processes if process.status is not None), key=lambda p: p.ended)
        workers = [process for process in self._processes if process.role == "worker"]
        worked = bool(workers) and all(process in ended for process in workers)
        for process in ended:
            if process.failed:
                return process, 1 if worked else AFTER_A_FAILURE
        for process in ended:
            if process.status in STOPPED:
                return process, AFTER_A_STOP
        if worked:
            return max(workers, key=lambda process: process.ended), AFTER_THE_WORKERS
        return None, 0

    @contextmanager
    def forwarding_signals(self) -> Iterator[None]:
        """Pass the first signal on to the workers, which write their checkpoint; end all at the second."""
        before = {number: signal.getsignal(number) for number in FORWARDED}

        def forward(number: int, _) -> None:
            for other, handler in before.items():
                signal.signal(other, handler)
            for process in self._running():
                if process.role == "worker":
                    self._signal(process, number)

        for number in FORWARDED:
            signal.signal(number, forward)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signal(self, process: Process, number: int) -> None:
        if self._lifeline:
            self._write(process.popen, FORWARDED.get(number, "KILL"))
            return
        with suppress(OSError):  # it has just ended
            os.killpg(process.popen.pid, number)

    def _write(self, popen: subprocess.Popen, line: str) -> None:
        """Tell a process something by its lifeline."""
        with suppress(OSError):  # it has just ended
            popen.stdin.write(f"{line}\n".encode())
            popen.stdin.flush()

    def _kill(self) -> None:
        """End what still runs, and start nothing more."""
        with self._lock:
            self._closed = True
        running = self._running()
        for process in running:
            self._signal(process, signal.SIGKILL)
        deadline = time.monotonic() + 3
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in running:
            with suppress(OSError):
                os.killpg(process.popen.pid, signal.SIGKILL)


def _start_titling(title: str, target: TextIO) -> subprocess.Popen:
    """A process that passes lines on as they come, with a title, a last one without a line break too. It outlives the
    launcher, lest what a process says while it saves its work breaks it.
    """
    loop = 'while IFS= read -r line || [ -n "$line" ]; do printf "%s%s\\n" "$1" "$line"; done'
    command = ["/bin/bash", "-c", loop, "titles", title]
    bytewise = {**os.environ, "LC_ALL": "C"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=target, env=bytewise, start_new_session=True)


def _describe(command: str, environment: dict[str, str]) -> tuple[str, str | None]:
    """What to call a process, and its role."""
    role = environment.get("DMLC_ROLE")
    if found := re.search(r"\bDMLC_ROLE=(\w+)", command):
        role = found[1]
    host = re.match(r"ssh -o StrictHostKeyChecking=no (\S+) -p ", command)
    name = f"a {role}" if role in NUMBERED else f"the {role}" if role else f"`{command.split()[0]}`"
    return name + (f" on {host[1]}" if host else ""), role


def _signal(process: Process) -> str | None:
    """The signal that killed a process."""
    with suppress(ValueError):
        return signal.Signals(process.status - 128).name
    return None


def _tell(process: Process) -> None:
    """Say what ended the job, where the process itself could not."""
    if not process.failed:
        return
    if name := _signal(process):
        print(f"error: {process.name} was killed ({name}): {RESUME}", file=sys.stderr, flush=True)
    elif process.status > 2:
        print(f"error: {process.name} ended with status {process.status}", file=sys.stderr, flush=True)
