"""The servers of a job, and what workers tell them beside arrays.

MXNet's own server unpickles, and so runs, what any client sends. Ours takes the description of an optimizer where it
needs one, under dist_async, and refuses all else that it is asked. The other commands of ps-lite (stop, synchronous
mode, compression, profiling) and the arrays never come here: MXNet takes them from anyone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import mxnet as mx

from mxnet_resnet.engines.mxnet import serveroptimizer
from mxnet_resnet.engines.mxnet.secret import SECRET, seal, unseal

CONTROLLER = 0  # the command that MXNet hands to us
MOST_TOLD = 10  # refusals in the log
UPDATES = "dist_async"  # whose servers update the parameters


class Store(mx.kvstore.KVStore):
    """A kvstore of several processes, whose servers are ours."""

    def set_optimizer(self, optimizer: mx.optimizer.Optimizer) -> None:
        """Describe an optimizer to the servers; for all workers together. Raises ValueError where they take none."""
        if self.type != UPDATES:
            raise ValueError(f"the servers of {self.type} only add up")
        if self.rank == 0:
            self._send_command_to_servers(CONTROLLER, seal(serveroptimizer.describe(optimizer)))
        self._barrier()


def adopt(store: mx.kvstore.KVStore) -> Store:
    """The same kvstore as one of ours. What is given is none any more."""
    handle, store.handle = store.handle, None  # freeing nothing is nothing
    return Store(handle)


def serve(store: mx.kvstore.KVStore, kind: str, end: Callable[[str], NoReturn]) -> None:
    """Serve, or be the scheduler, until the workers have left. ``end`` is how a process ends. Raises MXNetError."""
    refused = 0

    def control(head: int, body: bytes | None, _: object) -> None:
        nonlocal refused
        try:
            if kind != UPDATES:
                raise ValueError(f"the servers of {kind} take none")
            optimizer = serveroptimizer.build(unseal(body or b""))
            store._set_updater(mx.optimizer.get_updater(optimizer))
        except Exception as error:  # into C++ none may go
            if kind == UPDATES and store._updater is None:  # without one, what workers send would abort the process
                words = f"no optimizer came with the secret of this job: all of its processes need the same {SECRET}"
                store._set_updater(lambda *_: end(words))
            refused += 1
            if refused <= MOST_TOLD:
                last = " (no more of these are told)" if refused == MOST_TOLD else ""
                _tell(f"warning: server {store.rank} refused command {head} ({len(body or b'')} bytes): {error}{last}")

    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(control)
    mx.base.check_call(mx.base._LIB.MXKVStoreRunServer(store.handle, callback, None))


def _tell(words: str) -> None:
    with suppress(OSError):  # nobody reads
        os.write(sys.stderr.fileno(), f"{words}\n".encode(errors="replace"))
