"""Steps as one CUDA graph: of one net, or of several that are trained at once, on a stream each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import capture, devices, memory

if TYPE_CHECKING:
    from mxnet_resnet.engines.torch.session import TorchSession

ROOM = 0.95  # of the free memory, which is never without gaps


class Launcher:
    """Computes the steps of sessions on one device at once."""

    def __init__(self) -> None:
        self._key: object = None
        self._replay: capture.Work | None = None

    def launch(self, sessions: Sequence[TorchSession]) -> None:
        """Compute the noted steps of some sessions."""
        if not sessions:
            return
        with _explaining_shortage(sessions):
            if sessions[0].captures:
                self._find_graph(sessions)()
            else:
                for session in sessions:
                    session.compute()
        for session in sessions:
            session.settle()

    def _find_graph(self, sessions: Sequence[TorchSession]) -> capture.Work:
        """The graph of these sessions with the feeds that they have now; the one before it goes."""
        key = [(id(session), id(session.feed)) for session in sessions]  # they live as long as the steps are wanted
        if self._replay is None or self._key != key:
            self._replay = None
            for session in sessions:
                session.rehearse(1)
            pieces, streams = zip(*((session.compute, session.stream) for session in sessions))
            self._replay, self._key = capture.capture(pieces, streams, sessions[0].device), key
        return self._replay


def unite(sessions: Sequence[TorchSession]) -> Callable[[], None]:
    """Let sessions on one device share their data sets, and wait for what this returns, which computes their steps.

    Raises UserError where the memory is too little.
    """
    device = sessions[0].device
    if device.type == "cuda":
        _check_memory(device, [session.activations for session in sessions])
    launcher = Launcher()
    for session in sessions:
        session.join(sessions[0].data_sets)
    return lambda: launcher.launch([session for session in sessions if session.noted])


def _check_memory(device: torch.device, activations: Sequence[int]) -> None:
    """Raise UserError where what steps keep, in bytes each, is more than a GPU has free."""
    torch.cuda.empty_cache()
    free = ROOM * torch.cuda.mem_get_info(device)[0]
    if sum(activations) > free:
        fitting = int(free // max(activations))
        raise UserError(
            f"{devices.describe_memory(device)}, too little for {len(activations)} seeds at once: "
            f"{fitting or 'not one'} would fit"
        )


def _explaining_shortage(sessions: Sequence[TorchSession]) -> AbstractContextManager[None]:
    if len(sessions) == 1:
        return sessions[0].explaining_shortage()
    return memory.explaining_shortage(sessions[0].device, f"{len(sessions)} seeds at once", lambda: "give fewer")
