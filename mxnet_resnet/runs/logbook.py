"""Training logs: the lines that we write; plot/loglines.py reads those of any MXNet training.

The lines written are those of MXNet's own training loop, which existing tools parse.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import explaining_refusals, name_by_date
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.base.places import awaiting_reader, find_descriptor

OWNER = "prefix.txt"  # in the folder of a log: the prefix of its run, from there
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


class _Terminal(logging.StreamHandler):
    """Lines above a progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
            self.flush()
        except Exception:
            self.handleError(record)


class Log:
    """The log of a run, open: a file, and the terminal, where its lines begin with ``title``."""

    def __init__(self, path: Path, title: str):
        self._file, self._terminal = _File(path, encoding="utf-8", errors="backslashreplace"), _Terminal(sys.stderr)
        self._file.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._terminal.setFormatter(logging.Formatter(title + logging.BASIC_FORMAT))

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Within it the lines that are logged come here. The UserError or Interrupted that ends it is the last line of
        the file.
        """
        with _receiving(self._file, self._terminal):
            try:
                yield
            except (UserError, Interrupted) as end:
                self.note(end)
                raise

    def take(self, records: Iterable[logging.LogRecord]) -> None:
        """Write lines that were kept meanwhile."""
        for record in records:
            self._file.handle(record)
            self._terminal.handle(record)

    def note(self, end: UserError | Interrupted) -> None:
        """Write what ends a run to the file alone; the command that it ends tells it on the terminal."""
        level = "ERROR" if isinstance(end, UserError) else "INFO"
        self._file.handle(logging.makeLogRecord({"name": "root", "levelname": level, "msg": str(end)}))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._terminal.close()


class Held(logging.Handler):
    """Lines that are kept for logs to `Log.take`."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def receiving(self) -> AbstractContextManager[None]:
        """Within it the lines that are logged come here."""
        return _receiving(self)

    def pop(self) -> list[logging.LogRecord]:
        """The lines since this was last called."""
        popped, self._records = self._records, []
        return popped


def find_folder(log_dir: Path, prefix: str) -> Path:
    """The folder of the log of the run at ``prefix``: ``LOG_DIR/NAME``, or ``LOG_DIR/NAME-2`` and so on where a run of
    this name in another folder has that.
    """
    name = Path(prefix).name
    folders = (log_dir / f"{name}{ending}" for ending in ("", *(f"-{number}" for number in range(2, 10000))))
    return next(folder for folder in folders if _may_have(folder, prefix))


def _may_have(folder: Path, prefix: str) -> bool:
    """Whether a folder of logs is of the run at ``prefix``, however that is spelt, or of none."""
    owner = _read_owner(folder)
    try:
        return owner is None or os.path.realpath(folder / owner) == os.path.realpath(prefix)
    except ValueError:  # no name of a file
        return False


def _name_owner(folder: Path, prefix: str) -> str:
    """The prefix of a run as the folder of its log names it: from there, so that both may move together."""
    try:
        return os.path.relpath(prefix, folder)
    except ValueError:  # Windows, on another drive
        return os.path.abspath(prefix)


def _read_owner(folder: Path) -> str | None:
    """Whose a folder of logs is; None of one that is not there, or is of before; nobody's where that cannot be read."""
    if not os.path.lexists(folder / OWNER):
        return None
    try:
        return os.fsdecode(sources.read(folder / OWNER, "")).strip()
    except UserError:
        return ""


@contextmanager
def opening(path: Path, append: bool, title: str = "", prefix: str | None = None) -> Iterator[Log]:
    """A log at ``path``, in a folder that is from now on that of the run at ``prefix``; without ``append`` an older log
    there is kept under its date.

    Raises UserError where ``path`` cannot be written.
    """
    with explaining_refusals(f"the log {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if prefix is not None and _read_owner(path.parent) is None:
            (path.parent / OWNER).write_bytes(os.fsencode(f"{_name_owner(path.parent, prefix)}\n"))
        if not append:
            set_aside(path)
        with awaiting_reader(path):
            log = Log(path, title)
    try:
        with telling():
            yield log
    finally:
        log.close()


@contextmanager
def telling() -> Iterator[None]:
    """Let lines be logged that are no warnings."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)


@contextmanager
def _receiving(*handlers: logging.Handler) -> Iterator[None]:
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)


def set_aside(path: Path) -> None:
    """Give an older log, if there is one, a name with its date; links, pipes and devices stay. Raises OSError."""
    target = Path(os.path.realpath(path))
    if find_descriptor(path) is None and (target.is_file() or target.is_dir()):
        target.rename(name_by_date(target))


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
