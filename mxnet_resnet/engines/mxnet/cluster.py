"""Membership of a job on several machines: who takes part, whether all still live, and how a process leaves.

The parameter server is MXNet's own, ps-lite. Each server and worker sends the scheduler a heartbeat, and the scheduler
answers it: the scheduler sees everyone, everyone sees the scheduler. A thread in every process asks ps-lite what it has
seen, because the main thread waits inside MXNet whenever it matters.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from mxnet_resnet.base.errors import UserError, report
from mxnet_resnet.base.interruption import Interrupted

if TYPE_CHECKING:
    import mxnet as mx

HEARTBEAT_SECONDS = 2
SILENCE_SECONDS = 12  # without a heartbeat a process counts as dead; the news takes two such times to reach everyone
START_SECONDS = 5  # ample for a server's store to begin, before which asking it would crash
LEAVE_SECONDS = 60
JOIN_SECONDS = 300  # for all processes to find each other; RESNET_JOIN_TIMEOUT overrides it

REQUIRED = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
ROLES = ("worker", "server", "scheduler")
RESUME = "the job is ended; launch it again with --resume"

# How ps-lite numbers the processes of a job: 1 is the scheduler, 7 everyone.
SCHEDULER, EVERYONE = 1, 7
FIRST_SERVER, FIRST_WORKER, NUMBER_STEP = 8, 9, 2


def is_distributed(kind: str) -> bool:
    """Whether a kvstore of this name is for several processes."""
    return kind.startswith("dist")


def prepare(kind: str) -> None:
    """Make the process ready for its role in a job; call it before MXNet is imported.

    In a server or a scheduler this is all there is: it serves until the workers have left and then raises SystemExit.
    Does nothing for a store of one process. Raises UserError where the environment is not that of a launched job.
    """
    _set_role()
    role = os.environ.get("DMLC_ROLE")
    if not is_distributed(kind):
        if role:
            raise UserError(
                f"this is the {role} of a launched job, and --kv-store {kind} is for one process: dist_sync"
            )
        return
    _check_variables(kind)
    _set_addresses()
    os.environ["PS_HEARTBEAT_INTERVAL"] = str(HEARTBEAT_SECONDS)
    _watch.start()
    if role != "worker":
        _serve(role, kind)


def _set_role() -> None:
    """Take the role from the number, from 1, of this task where dmlc_tracker tells nothing else."""
    if os.environ.get("DMLC_JOB_CLUSTER") == "sge" and "DMLC_ROLE" not in os.environ:
        first = int(os.environ["DMLC_TASK_ID"]) <= int(os.environ["DMLC_NUM_WORKER"])
        os.environ["DMLC_ROLE"] = "worker" if first else "server"


def _check_variables(kind: str) -> None:
    missing = [name for name in REQUIRED if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"--kv-store {kind} needs a launched job ({', '.join(missing)} not set): "
            f"python tools/launch.py -n WORKERS python train_resnet.py --kv-store {kind} ..."
        )
    if os.environ["DMLC_ROLE"] not in ROLES:
        raise UserError(f"DMLC_ROLE={os.environ['DMLC_ROLE']} is none of {', '.join(ROLES)}")
    for name in ("DMLC_NUM_WORKER", "DMLC_NUM_SERVER", "DMLC_PS_ROOT_PORT"):
        if not os.environ[name].isdigit() or not 0 < int(os.environ[name]) < 65536:
            raise UserError(f"{name}={os.environ[name]} is not a number from 1 to 65535")


def _set_addresses() -> None:
    """Name the scheduler and this process by numbers, which ZeroMQ needs in order to listen."""
    scheduler = os.environ["DMLC_PS_ROOT_URI"] = _resolve(os.environ["DMLC_PS_ROOT_URI"])
    if os.environ["DMLC_ROLE"] == "scheduler":
        if not can_listen(scheduler, int(os.environ["DMLC_PS_ROOT_PORT"])):
            if "KUBERNETES_SERVICE_HOST" not in os.environ:
                raise UserError(f"the scheduler's address {scheduler} is none of this machine's: see --host")
            os.environ["DMLC_USE_KUBERNETES"] = "1"  # the address is a service's: ps-lite then listens on all
        return
    own = os.environ.pop("DMLC_NODE_HOST", "")
    if interface := os.environ.get("DMLC_INTERFACE"):  # ps-lite looks at it where it is told no address
        known = [name for _, name in socket.if_nameindex()]
        if interface not in known:
            raise UserError(f"DMLC_INTERFACE={interface} is none of this machine's interfaces: {', '.join(known)}")
        return
    if not _is_number(own):  # a launcher's name for this machine may mean 127.0.1.1 here
        own = address_towards(scheduler)
    if not can_listen(own, 0):
        raise UserError(f"DMLC_NODE_HOST={own} is none of this machine's addresses")
    os.environ["DMLC_NODE_HOST"] = own


def _resolve(host: str) -> str:
    """The address of a host. A cluster may make the name known some seconds after it starts the processes."""
    deadline = time.monotonic() + min(30, _join_seconds())
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(f"the scheduler's host {host} has no known address ({error.strerror})") from error
        time.sleep(1)


def _is_number(host: str) -> bool:
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return host.count(".") == 3


def can_listen(address: str, port: int) -> bool:
    """Whether an address is this machine's. Raises UserError where the port is taken."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise UserError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    return True


def address_towards(host: str) -> str:
    """This machine's address on the way to ``host``, as ``host`` sees it. Sends nothing. Raises UserError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as error:
            raise UserError(f"there is no way from this machine to {host}: {error.strerror}") from error
        return probe.getsockname()[0]


def _join_seconds() -> float:
    given = os.environ.get("RESNET_JOIN_TIMEOUT", JOIN_SECONDS)
    try:
        return float(given)
    except ValueError as error:
        raise UserError(f"RESNET_JOIN_TIMEOUT={given} is no number of seconds") from error


def _serve(role: str, kind: str) -> NoReturn:
    """Be a server or the scheduler until the workers have left."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # workers that are told to stop need the servers until they have
    # MXNet would serve in the midst of its import, and unpickle what it is sent.
    del os.environ["DMLC_ROLE"]
    import mxnet as mx

    from mxnet_resnet.engines.mxnet import server

    os.environ["DMLC_ROLE"] = role
    store = mx.kvstore.create("dist")
    _watch.joined(store.handle, delay=START_SECONDS)
    try:
        server.serve(store, kind, end_process)
    except mx.base.MXNetError as error:
        raise UserError(f"MXNet's {role} failed: {str(error).strip().splitlines()[-1]}") from error
    _watch.stop()
    sys.exit()


@contextmanager
def join(kind: str) -> Iterator[mx.kvstore.KVStore]:
    """The kvstore, for as long as this worker takes part; ``prepare`` comes first.

    After the block, or an Interrupted in it, a worker of a job waits for the others and leaves with them: all have to
    come there after the same step. Any other exception is reported and ends the process at once, which the others
    notice. Raises UserError where there is no such store.
    """
    import mxnet as mx

    try:
        store = mx.kvstore.create(kind)
    except mx.base.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        advice = f"it failed ({reason})" if is_distributed(kind) else "take device or local"
        raise UserError(f"this MXNet has no --kv-store {kind}: {advice}") from error
    if not is_distributed(kind):
        yield store
        return
    from mxnet_resnet.engines.mxnet import server

    store = server.adopt(store)
    _watch.joined(store.handle)
    try:
        yield store
    except Interrupted:
        _leave(store)
        raise
    except BaseException as error:
        # The store's destructor would wait for answers that may never come.
        status = report(error)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    _leave(store)


def _leave(store: mx.kvstore.KVStore) -> None:
    """Leave the job together with the other workers; the last to leave stop the servers."""
    import mxnet as mx

    mx.nd.waitall()
    store._barrier()
    _watch.stop()  # what it asks is about to be no more
    alarm = threading.Timer(LEAVE_SECONDS, end_process, ["not all processes of the job have left it"])
    alarm.daemon = True
    alarm.start()
    mx.base.check_call(mx.base._LIB.MXKVStoreFree(store.handle))
    store.handle = None  # freeing nothing is nothing
    alarm.cancel()


class _Watch(threading.Thread):
    """Ends this process, whatever its main thread waits for, when another process of the job has died."""

    def __init__(self):
        super().__init__(name="watch", daemon=True)
        self._store: ctypes.c_void_p | None = None
        self._ask_from = 0.0
        self._lock = threading.Lock()
        self._stopped = False

    def joined(self, store: ctypes.c_void_p, delay: float = 0.0) -> None:
        """Tell the handle of the store, and the seconds until ps-lite may be asked through it."""
        self._ask_from = time.monotonic() + delay
        self._store = store

    def stop(self) -> None:
        """Ask no more."""
        with self._lock:
            self._store, self._stopped = None, True

    def run(self) -> None:
        self._wait_for_everyone()
        before: list[str] = []
        while self._ready():
            dead = self._dead()
            # Seen twice, so that a clock that was set or a machine that slept is no death.
            if dead and dead == before:
                end_process(f"{' and '.join(dead)} died or cannot be reached: {RESUME}")
            before = dead
            time.sleep(HEARTBEAT_SECONDS + 1)

    def _wait_for_everyone(self) -> None:
        seconds = _join_seconds()
        deadline = time.monotonic() + seconds
        while not self._ready() and not self._stopped:
            if time.monotonic() > deadline:
                end_process(
                    f"not all of the {os.environ['DMLC_NUM_WORKER']} workers, {os.environ['DMLC_NUM_SERVER']} servers "
                    f"and the scheduler at {_scheduler()} came together within {seconds:.0f} s: one did not start, or "
                    "its address or a firewall keeps it off"
                )
            time.sleep(0.5)

    def _ready(self) -> bool:
        """Whether this process is connected to the job. It is not before all have joined, nor after it has left."""
        # Measured against a limit in the future, everyone whom this process hears at all is silent.
        return self._silent(EVERYONE, -1)

    def _dead(self) -> list[str]:
        if os.environ["DMLC_ROLE"] != "scheduler":
            lost = self._silent(SCHEDULER, SILENCE_SECONDS)
            return [f"the scheduler at {_scheduler()}, or a process that it watched,"] if lost else []
        return [
            f"{role} {rank}"
            for role, first in (("server", FIRST_SERVER), ("worker", FIRST_WORKER))
            for rank in range(int(os.environ[f"DMLC_NUM_{role.upper()}"]))
            if self._silent(first + NUMBER_STEP * rank, SILENCE_SECONDS)
        ]

    def _silent(self, number: int, seconds: int) -> bool:
        """Whether ps-lite has heard nothing for so long from a process, or one of a group, that it listens to."""
        with self._lock:
            if self._store is None or time.monotonic() < self._ask_from:
                return False
            library = sys.modules["mxnet.base"]._LIB
            count = ctypes.c_int()
            failed = library.MXKVStoreGetNumDeadNode(self._store, number, ctypes.byref(count), seconds)
            return not failed and count.value > 0


def _scheduler() -> str:
    return f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"


def end_process(reason: str) -> NoReturn:
    """End the process from a thread: nothing else ends one whose main thread waits inside MXNet."""
    os.write(sys.stderr.fileno(), f"error: {reason}\n".encode())
    os._exit(2)


_watch = _Watch()
