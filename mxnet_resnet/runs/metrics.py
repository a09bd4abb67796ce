"""A run in figures: ``metrics.jsonl``, an object an epoch and phase, and on request TensorBoard's event files."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import explaining_refusals
from mxnet_resnet.base.places import check_no_pipe
from mxnet_resnet.runs import logbook

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

NAME, EVENTS = "metrics.jsonl", "tensorboard"


class MetricsFile:
    """Notes the figures of epochs; what cannot be written is told in the log, and does not end a run.

    An epoch that is trained again is noted again: of ``metrics.jsonl`` the later lines count, as for logreader.read.
    """

    def __init__(self, path: Path | None, events: SummaryWriter | None = None):
        self.path, self.events = path, events

    def train(
        self, epoch: int, metrics: logbook.Metrics, rate: float, seconds: float, images: int, wait: float
    ) -> None:
        """Note an epoch's training on ``images``, which took ``seconds``, of them ``wait`` for data."""
        times = {"seconds": seconds, "images": images, "images_per_second": images / seconds, "data_wait": wait}
        self._note(epoch, "train", metrics, {"lr": rate, **times})

    def validation(self, epoch: int, metrics: logbook.Metrics) -> None:
        """Note an epoch's validation."""
        self._note(epoch, "validation", metrics, {})

    def _note(self, epoch: int, phase: str, metrics: logbook.Metrics, more: dict[str, float]) -> None:
        figures = {name: float(value) if math.isfinite(value) else None for name, value in metrics}
        more = {name: value if isinstance(value, int) else round(value, 6) for name, value in more.items()}
        if self.path:
            try:
                _append(self.path, json.dumps({"epoch": epoch, "phase": phase, "metrics": figures, **more}))
            except OSError as error:
                logging.warning("cannot write %s: %s", self.path, error.strerror)
        if self.events:
            for name, figure in figures.items():
                if figure is not None:
                    self.events.add_scalar(f"{name}/{phase}", figure, epoch)
            for name, value in more.items():
                self.events.add_scalar(f"run/{name}", value, epoch)
            self.events.flush()


def _append(path: Path, line: str) -> None:
    """Add a line, below one that was cut off when its writer was killed, if there is such."""
    with path.open("ab+" if path.is_file() else "ab") as file:
        if path.is_file() and file.tell():
            file.seek(-1, 2)
            line = line if file.read() == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


@contextmanager
def writing(folder: Path | None, append: bool, events: bool, epoch: int) -> Iterator[MetricsFile]:
    """Metrics to ``folder``, or to nothing; without ``append`` an older one there is kept under its date.

    ``epoch`` is the first one to come, from which on earlier ``events`` are void. Raises UserError where it cannot be
    written.
    """
    if folder is None:
        yield MetricsFile(None)
        return
    with explaining_refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        check_no_pipe(folder / NAME)
        if not append:
            logbook.set_aside(folder / NAME)
            logbook.set_aside(folder / EVENTS)
        writer = _writer(folder / EVENTS, epoch) if events else None
    try:
        yield MetricsFile(folder / NAME, writer)
    finally:
        if writer:
            writer.close()


def check_tensorboard(events: bool) -> None:
    """Raise UserError where ``events`` are asked for that nothing here can write."""
    if events:
        _tensorboard()


def _writer(folder: Path, epoch: int) -> SummaryWriter:
    return _tensorboard().SummaryWriter(str(folder), purge_step=epoch)


def _tensorboard() -> ModuleType:
    try:
        import tensorboardX
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboardX: pip install tensorboardX") from error
    return tensorboardX
