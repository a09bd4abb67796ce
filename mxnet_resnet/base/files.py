"""Files that are written whole or not at all."""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import unwinding
from mxnet_resnet.base.places import Place, find_place, find_suffix

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_reading = threading.Lock()


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths to write to, which take the places of ``paths`` when the block ends well, and vanish otherwise.

    Makes the folders. What takes the place of a file has its mode and owner; a link stays, and the file that it leads
    to is replaced; what is for a pipe or a character device goes through it once all of it is there. Raises UserError
    where the system refuses to write.
    """
    places = [check_writable(path) for path in paths]
    with ExitStack() as stack:
        stack.enter_context(explaining_refusals(paths[0]))
        temporary = [stack.enter_context(_temporary(place)) for place in places]
        yield temporary
        whole = [(source, place.target) for source, place in zip(temporary, places) if not place.stream]
        for source, _ in whole:
            with source.open("rb+") as file:  # Windows syncs no file that is open for reading
                os.fsync(file.fileno())
        for source, target in whole:
            keep_owner(source, target)
            os.replace(source, target)
        for folder in {target.parent for _, target in whole}:
            _sync(folder)
        for source, place in zip(temporary, places):
            if place.stream:
                place.send(source)


@contextmanager
def _temporary(place: Place) -> Iterator[Path]:
    """An empty file, of a name that nobody can guess, beside the place that it is to take, or anywhere for a stream."""
    folder = Path(tempfile.gettempdir()) if place.stream else place.target.parent
    folder.mkdir(parents=True, exist_ok=True)
    named = place.path if place.stream else place.target
    path = folder / f".{named.stem}.{secrets.token_hex(8)}{named.suffix}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if place.stream else 0o666))
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def keep_owner(source: Path, target: Path) -> None:
    """Give ``source`` the mode of the file that it is to replace, and its owner where the system lets us."""
    if not target.exists():
        return
    before = target.stat()
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(source, before.st_uid, before.st_gid)
    source.chmod(stat.S_IMODE(before.st_mode) & 0o777)


def check_writable(path: Path, what: str = "") -> Place:
    """Raise UserError where a file can not be written to ``path``, as far as can be told before; nothing is left there.

    The folders that ``path`` lies in need not be there yet. ``what`` is what the sentence calls the file. Returns what
    stands there.
    """
    with explaining_refusals(what or path):
        place = find_place(path, what)
        if not place.stream:
            folder = next(folder for folder in place.target.parents if folder.exists())
            with tempfile.TemporaryFile(dir=folder):
                pass
    return place


def check_own(*paths: Path) -> None:
    """Raise UserError where a file in which a job keeps what it goes on with is a link, or another user's."""
    for path in paths:
        with explaining_refusals(path):
            if os.path.lexists(path):
                found = path.lstat()
                strange = hasattr(os, "geteuid") and found.st_uid != os.geteuid()
                if strange or not stat.S_ISREG(found.st_mode):
                    raise UserError(f"{path} is not a file of yours that an interrupted job has left: remove it")


def name_by_date(path: Path) -> Path:
    """A name for an older file that stays beside a new one: with its date, and a number where that is taken."""
    date = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
    names = (path.with_name(f"{path.stem}-{date}{number}{path.suffix}") for number in ("", *range(-2, -1000, -1)))
    return next(name for name in names if not os.path.lexists(name))


def check_picture(path: Path, suffixes: Sequence[str] = (".png",)) -> None:
    """Raise UserError unless the name of ``path`` has one of the suffixes, in small or capital letters, or is a stream,
    and a file can be written there.
    """
    if find_suffix(path) not in suffixes:
        *others, last = suffixes
        told = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"cannot draw to {path}: its name has to end in {told}")
    check_writable(path)


@contextmanager
def explaining_refusals(what: object, advice: str = "") -> Iterator[None]:
    """Within it, where the system refuses to write, UserError is raised: ``what`` cannot be written, and why.

    A pipe that nobody reads any more is none of it: see base/errors.py.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {what}: {error.strerror}{advice}") from error


@contextmanager
def locked(path: Path, advice: str = "give this one another --model-prefix") -> Iterator[None]:
    """Keep other processes from what ``path`` stands for. Raises UserError where one has it, with
    ``advice``, or it cannot be written.

    Where the system or the file system knows no locks, a line in the log says so.
    """
    with explaining_refusals(path):
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _holding(path, advice):
            yield
    finally:
        _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, in which nothing was written."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def _holding(path: Path, advice: str) -> Iterator[None]:
    """As `locked`, in a folder that is there."""
    if fcntl is None:
        _warn_of_no_lock(path, "not on this system")
        yield
        return
    with explaining_refusals(path):
        try:
            file = _lock(path)
        except BlockingIOError as error:
            raise UserError(f"another run has {path}: {advice}") from error
    with file:
        try:
            yield
        finally:
            with suppress(PermissionError):  # another user's, whose folder lets that one alone remove it
                path.unlink(missing_ok=True)


def _lock(path: Path) -> IO[str]:
    """The file at ``path``, open and locked. Raises OSError, a BlockingIOError where another process has it."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
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
    # By the logger: `logging.warning` gives the terminal a handler where no log is open, and all lines come twice.
    logging.getLogger().warning("There is no lock on %s (%s): no other run may write there", path, reason)


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
    pattern = re.compile(re.escape(f".{prefix.name}") + r"(.*)\.[0-9a-f]+\.\w+")  # of before: the process's number
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
        tempfile.TemporaryDirectory(prefix=".", dir=temporary[0].parent) as folder,
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
