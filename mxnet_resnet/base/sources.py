"""What is read: files on a disk, of a size that they may have; a pipe or a device would be waited for without end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.places import find_descriptor

MEBIBYTE = 1 << 20
LARGEST_NOTE = 64 * MEBIBYTE  # of settings, names and notes: what people and programs say about a run
LARGEST_TEXT = 1024 * MEBIBYTE  # of lists and logs: a line for each of ten million images
LARGEST_IMAGE = 512 * MEBIBYTE  # of an encoded image
KINDS = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}


def read(path: str | Path, what: str, most: int = LARGEST_NOTE, streams: bool = False) -> bytes:
    """The bytes of a file, which a sentence calls ``what``. Raises UserError where it cannot be read, is no file, or
    has more than ``most`` bytes.

    ``streams``: a stream that the command was started with is read too, such as ``/dev/stdin`` or ``<(...)``.
    """
    with open_file(path, what, streams) as file, explaining(path, what):
        data = _read(file, most)
    if data is None:
        raise UserError(f"cannot read {_name(path, what)}: it has more than {most // MEBIBYTE:,} MiB")
    return data


def read_text(path: str | Path, what: str, most: int = LARGEST_NOTE) -> str:
    """The text of a file in UTF-8. Raises UserError as `read`, and where it is no such text."""
    try:
        return read(path, what, most).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {_name(path, what)}: it is not text in UTF-8") from error


def open_file(path: str | Path, what: str, streams: bool = False) -> BufferedReader:
    """A file, open for its bytes. Raises UserError where it is none, or cannot be read."""
    with explaining(path, what):
        _check(path, what, streams)
        return open(path, "rb")


def check_readable(path: str | Path, what: str) -> None:
    """Raise UserError where `open_file` does."""
    open_file(path, what).close()


@contextmanager
def explaining(path: str | Path, what: str) -> Iterator[None]:
    """Within it, where the system does not let ``path`` be read, UserError is raised: ``what`` it is, and why."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        raise UserError(f"cannot read {_name(path, what)}: {getattr(error, 'strerror', None) or error}") from error


def _check(path: str | Path, what: str, streams: bool) -> None:
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return
    if streams and not stat.S_ISDIR(mode) and find_descriptor(Path(path)) is not None:
        return
    kind = next((kind for kind, matches in KINDS.items() if matches(mode)), "a device")
    raise UserError(f"cannot read {_name(path, what)}: it is {kind}, not a file")


def _read(file: BufferedReader, most: int) -> bytes | None:
    """All bytes of a file; None where these are more than ``most``."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file.read() if os.fstat(file.fileno()).st_size <= most else None
    data = bytearray()
    while len(data) <= most and (piece := file.read(MEBIBYTE)):
        data += piece
    return bytes(data) if len(data) <= most else None


def _name(path: str | Path, what: str) -> str:
    text = str(path)
    return f"{what} {repr(text) if chr(0) in text else text}".lstrip()
