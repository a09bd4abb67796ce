"""Training logs: the lines that we write; plot/logreader.py reads those of any MXNet training.

The lines written are those of MXNet's own training loop, which existing tools parse.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import explaining_refusals

Metrics = Iterable[tuple[str, float]]


class _File(logging.FileHandler):
    """A log file; what cannot be written, as on a full disk, is told once and does not end a run."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.told:
            self.told = True
            print(f"cannot write {self.baseFilename}: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def writing(path: Path, append: bool) -> Iterator[None]:
    """Send log lines to the terminal and to ``path``. Without ``append`` an older log there is kept under its date.

    Raises UserError where ``path`` cannot be written.
    """
    with explaining_refusals(f"the log {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not append:
            set_aside(path)
        handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), _File(path)]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        root.addHandler(handler)
    try:
        yield
    except UserError as error:
        handlers[1].handle(logging.makeLogRecord({"name": "root", "levelname": "ERROR", "msg": str(error)}))
        raise
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def set_aside(path: Path) -> None:
    """Give an older log, if there is one, a name with its date. Raises OSError."""
    if path.exists():
        date = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
        path.rename(path.with_name(f"{path.stem}-{date}{path.suffix}"))


def write_batch(epoch: int, batch: int, speed: float, metrics: Metrics) -> None:
    """Log ``speed`` in images/s and the training metrics since the last such line."""
    for name, value in metrics:
        logging.info("Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec\tTrain-%s=%f", epoch, batch, speed, name, value)


def write_epoch(epoch: int, phase: str, metrics: Metrics) -> None:
    """Log the metrics of a whole epoch; ``phase`` is ``"Train"`` or ``"Validation"``."""
    for name, value in metrics:
        logging.info("Epoch[%d] %s-%s=%f", epoch, phase, name, value)


def write_learning_rate(epoch: int, rate: float) -> None:
    """Log the learning rate that an epoch begins with."""
    logging.info("Epoch[%d] Learning rate=%g", epoch, rate)


def write_time(epoch: int, seconds: float) -> None:
    """Log the duration of an epoch's training."""
    logging.info("Epoch[%d] Time cost=%.3f", epoch, seconds)


def write_wait(epoch: int, seconds: float) -> None:
    """Log how long an epoch's training waited for its batches; much of its time means that reading is too slow."""
    logging.info("Epoch[%d] Data wait=%.3f", epoch, seconds)
