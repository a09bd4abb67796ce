"""Files that are written whole or not at all."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import unwinding

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_reading = threading.Lock()


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths to write to, which take the places of ``paths`` when the block ends well, and vanish otherwise.

    Makes the folders. Raises UserError where the system refuses to write.
    """
    for path in paths:
        check_writable(path)
    temporary = [path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") for path in paths]
    try:
        with explaining_refusals(paths[0]):
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            for source, target in zip(temporary, paths):
                with source.open("rb+") as file:  # Windows syncs no file that is open for reading
                    os.fsync(file.fileno())
                os.replace(source, target)
            for folder in {path.parent for path in paths}:
                _sync(folder)
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink()


def check_writable(path: Path, what: str = "") -> None:
    """Raise UserError where a file can not be written to ``path``, as far as can be told before; nothing is left there.

    The folders that ``path`` lies in need not be there yet. ``what`` is what the sentence calls the file.
    """
    with explaining_refusals(what or path):
        if not path.name or path.is_dir():
            raise UserError(f"cannot write {what or path}: it is a folder")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass


def check_picture(path: Path, suffixes: Sequence[str] = (".png",)) -> None:
    """Raise UserError unless the name of ``path`` has one of the suffixes, in small or capital letters, and a file can
    be written there.
    """
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        told = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"cannot draw to {path}: its name has to end in {told}")
    check_writable(path)


@contextmanager
def explaining_refusals(what: object, advice: str = "") -> Iterator[None]:
    """Within it, where the system refuses to write, UserError is raised: ``what`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {what}: {error.strerror}{advice}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from what ``path`` stands for. Raises UserError where one has it, or it cannot be written.

    Where the system or the file system knows no locks, a line in the log says so.
    """
    with explaining_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        _warn_of_no_lock(path, "not on this system")
        yield
        return
    with explaining_refusals(path):
        try:
            file = _lock(path)
        except BlockingIOError as error:
            raise UserError(f"another run has {path}: give this one another --model-prefix") from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(path: Path) -> IO[str]:
    """The file at ``path``, open and locked. Raises OSError, a BlockingIOError where another process has it."""
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError as error:
            _warn_of_no_lock(path, error.strerror)
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder has removed it meanwhile


def _warn_of_no_lock(path: Path, reason: str | None) -> None:
    logging.warning("There is no lock on %s (%s): no other run may write there", path, reason)


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """``size`` bytes of an open file from ``offset`` on, fewer at its end; threads may share the file."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    with _reading:
        file.seek(offset)
        return file.read(size)


def abandoned(prefix: Path) -> Iterator[tuple[Path, str]]:
    """What `replacing` was writing when its process was killed, at paths that begin with ``prefix``: the file, and the
    rest of the path's name without its suffix.
    """
    pattern = re.compile(re.escape(f".{prefix.name}") + r"(.*)\.\d+\.\w+")
    for path in prefix.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            yield path, match[1]


@contextmanager
def staged(*paths: Path) -> Iterator[list[Path]]:
    """As ``replacing``, but the temporary paths have the names of ``paths``, for what is read back by its name."""
    with (
        unwinding() as go_on,
        replacing(*paths) as temporary,
        tempfile.TemporaryDirectory(prefix=".", dir=paths[0].parent) as folder,
    ):
        staging = [Path(folder, path.name) for path in paths]
        yield staging
        go_on()
        for source, target in zip(staging, temporary):
            os.replace(source, target)


def _sync(folder: Path) -> None:
    """Make the names in a folder last beyond a loss of power, where the system opens folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
