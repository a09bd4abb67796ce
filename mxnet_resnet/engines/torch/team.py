"""Nets that are trained at once on one GPU: their steps are one CUDA graph, a stream each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import capture, devices

if TYPE_CHECKING:
    from mxnet_resnet.engines.torch.session import TorchSession

ROOM = 0.95  # of the free memory, which is never without gaps


class Team:
    """Sessions whose steps are computed together; one alone is a team as well."""

    def __init__(self, sessions: Sequence[TorchSession]):
        self.sessions = sessions
        self._key: object = None
        self._replay: capture.Work | None = None

    def launch(self) -> None:
        """Compute the steps that were noted since the last time."""
        noted = [session for session in self.sessions if session.noted]
        if not noted:
            return
        if noted[0].captures:
            self._find_graph(noted)()
        else:
            for session in noted:
                session.compute()
        for session in noted:
            session.settle()

    def _find_graph(self, noted: Sequence[TorchSession]) -> capture.Work:
        """The graph of these sessions with the feeds that they have now; the one before it goes."""
        key = [(session, session.feed) for session in noted]
        if self._replay is None or self._key != key:
            self._replay = None
            for session in noted:
                session.rehearse(1)
            self._replay = capture.capture([session.compute for session in noted], noted[0].device)
            self._key = key
        return self._replay


def unite(sessions: Sequence[TorchSession]) -> Team:
    """A team of sessions on one device, whose data sets they share. Raises UserError where its memory is too little."""
    device = sessions[0].device
    if device.type == "cuda":
        _check_memory(device, [session.activations for session in sessions])
    team = Team(sessions)
    for session in sessions:
        session.join(team, sessions[0].data_sets)
    return team


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
