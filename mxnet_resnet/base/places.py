"""What stands where a file is to be written: links are followed, streams written through, nothing else replaced."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mxnet_resnet.base.errors import UserError

STDOUT = Path("/dev/stdout")
MOST_LINKS = 40  # as many as Linux follows
READER_SECONDS = 10  # that a log waits for the reader of a pipe


@dataclass(frozen=True)
class Place:
    """Where what is written to ``path`` goes.

    Attributes:
        path: as the user named it.
        target: the same with all links of its name followed: the file that is there afterwards.
        stream: it is a pipe or a character device, whose bytes go through it.
        descriptor: the open file of this process that it names, as ``/dev/stdout`` does.
    """

    path: Path
    target: Path
    stream: bool = False
    descriptor: int | None = None

    def send(self, file: Path) -> None:
        """Write the bytes of a file through the stream. Raises OSError."""
        if self.descriptor == 1 and sys.__stdout__ is not None:
            sys.__stdout__.flush()  # what was printed before
        taker = self.target if self.descriptor is None else os.dup(self.descriptor)
        with file.open("rb") as source, open(taker, "wb") as through:
            shutil.copyfileobj(source, through)


def find_place(path: Path, what: str = "") -> Place:
    """What stands at ``path``, which a sentence calls ``what``. Raises UserError where nothing can be written to it: a
    folder, a disk, a socket, a link that leads to itself, a file that is for reading only. Raises OSError.
    """
    target = _follow(path)
    if target is None:
        raise UserError(f"cannot write {what or path}: it is a link that leads to itself")
    descriptor = _name_descriptor(target)
    if descriptor is not None:
        return Place(path, target, stream=True, descriptor=descriptor)
    mode = target.stat().st_mode if target.exists() else stat.S_IFREG
    reason = _refuse(mode) if path.name else "a folder"
    if reason is None and target.exists() and not os.access(target, os.W_OK):
        reason = "there, for reading only"
    if reason:
        raise UserError(f"cannot write {what or path}: it is {reason}")
    return Place(path, target, stream=not stat.S_ISREG(mode))


def _refuse(mode: int) -> str | None:
    """What a file of a mode is that cannot be written, and must not be replaced; None where it can."""
    kinds = {"a folder": stat.S_ISDIR, "a disk": stat.S_ISBLK, "a socket": stat.S_ISSOCK}
    return next((kind for kind, matches in kinds.items() if matches(mode)), None)


def find_suffix(path: Path) -> str:
    """The suffix of a picture, in small letters; ``.png`` of a stream whose name has none."""
    return path.suffix.lower() or (".png" if find_place(path).stream else "")


def find_descriptor(path: Path) -> int | None:
    """The open file of this process that a path names, perhaps by links: 1 for ``/dev/stdout``."""
    target = _follow(path)
    return None if target is None else _name_descriptor(target)


@contextmanager
def awaiting_reader(path: Path) -> Iterator[None]:
    """Within it a pipe at ``path`` has a reader, so that to open it does not wait without end. Raises UserError where
    none comes within `READER_SECONDS`, and OSError.
    """
    with ExitStack() as stack:
        if path.is_fifo():
            held = _hold(path)
            stack.callback(os.close, held)  # not before it is opened again: its reader would be at the end
        yield


def _hold(pipe: Path) -> int:
    deadline = time.monotonic() + READER_SECONDS
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > deadline:
            raise UserError(f"cannot write {pipe}: it is a pipe that nobody reads")
        time.sleep(0.05)


def check_no_pipe(*paths: Path) -> None:
    """Raise UserError where a path is a pipe, for what is written more than once, or that nobody waits for."""
    for path in paths:
        if path.is_fifo():
            raise UserError(f"cannot write {path}: it is a pipe")


def is_same(path: Path, other: Path) -> bool:
    """Whether both names are of one file on a disk, that is there."""
    try:
        return path.is_file() and other.is_file() and path.samefile(other)
    except (OSError, ValueError):  # no name of a file
        return False


def _follow(path: Path) -> Path | None:
    """Where the links of a name lead, but for an open file's of this process; None where they have no end."""
    target = path.absolute()
    for _ in range(MOST_LINKS):
        if _name_descriptor(target) is not None or not target.is_symlink():
            return target
        target = target.parent / os.readlink(target)
    return None


def _name_descriptor(path: Path) -> int | None:
    """The open file of this process whose name a path is: 1 for ``/dev/fd/1``."""
    own = re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(?:/task/\d+)?/fd", os.path.realpath(path.parent))
    return int(path.name) if own and path.name.isdecimal() else None
