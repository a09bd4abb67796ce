"""The members of tars, compressed or inside of another, by headers that are not believed: no more memory or time is
taken than they can need.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

LARGEST_HEADER = 1 << 20  # bytes, with the long names and records that belong to it
MOST_UNPACKED = 1 << 29  # bytes of a compressed tar
COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open, b"]\0\0": lzma.open}
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)

NO_TAR = "is no tar, or a compressed one, which must be unpacked before"
NO_WHOLE_TAR = "is not a whole tar file (.tar.gz, .tar.xz)"


class RationedFile(io.RawIOBase):
    """An open file of which no more than is granted is read: in the header of a tar, a size can be any number."""

    def __init__(self, file: BinaryIO):
        self._file, self._left = file, 0

    def grant(self, size: int) -> RationedFile:
        """Let so many bytes be read from now on."""
        self._left = size
        return self

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self._left:
            raise tarfile.InvalidHeaderError("a header claims more than one has")  # type: ignore[attr-defined]
        self._left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def opened(path: Path) -> Iterator[tuple[tarfile.TarFile, int]]:
    """A tar, compressed or not, and the byte at which it ends, or has to. Raises UserError where it is none."""
    try:
        with sources.open_file(path, "") as file:
            head, size = file.read(6), os.fstat(file.fileno()).st_size
            file.seek(0)
            unpack = next((unpack for first, unpack in COMPRESSED.items() if head.startswith(first)), None)
            if unpack is None:
                yield open_tar(file, path, NO_WHOLE_TAR), size
            else:
                with unpack(file) as unpacked:
                    yield open_tar(cast(BinaryIO, unpacked), path, NO_WHOLE_TAR), MOST_UNPACKED
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(":")
        raise UserError(f"{path} {NO_WHOLE_TAR}: {reason}") from error


def open_tar(file: BinaryIO, where: Path | str, told: str = NO_TAR) -> tarfile.TarFile:
    """An open file as a tar, for `walk_members` and `read_member`. Raises UserError where no header begins it."""
    try:
        return tarfile.TarFile(fileobj=cast(BinaryIO, RationedFile(file).grant(LARGEST_HEADER)))
    except DAMAGED:
        raise
    except Exception as error:  # tarfile raises whatever its parsing meets
        raise UserError(f"{where} {told} ({error})") from error


def walk_members(tar: tarfile.TarFile, where: Path | str, begin: int, end: int) -> Iterator[tarfile.TarInfo]:
    """The files of the tar that lies between two bytes of an open one.

    ``TarFile.next`` takes damage for the end of the tar. Here the end is the mark that says so.
    """
    position = begin
    file = cast(RationedFile, tar.fileobj)
    while True:
        if position + tarfile.BLOCKSIZE > end:
            raise UserError(f"{where}, byte {position}: the tar ends without its end mark: {_explain_end(end)}")
        file.grant(LARGEST_HEADER).seek(position)
        try:
            member = tarfile.TarInfo.fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return
        except DAMAGED:
            raise
        except Exception as error:  # tarfile raises whatever its parsing meets
            raise UserError(f"{where}, byte {position}: no header of a tar stands here ({error})") from error
        name = member.name[:80]
        if not position < tar.offset <= end or member.size < 0:
            raise UserError(f"{where}, byte {position}: the tar ends inside of {name}: {_explain_end(end)}")
        if member.issparse():
            raise UserError(f"{where}, byte {position}: {name} is a sparse file: pack it without --sparse")
        if member.isreg():
            yield member
        position = tar.offset


def _explain_end(end: int) -> str:
    return f"it is cut short, or unpacks to more than {end:,} bytes" if end == MOST_UNPACKED else "it is cut short"


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file in an open tar; whether they are too many is for the caller to see before."""
    file = cast(RationedFile, tar.fileobj)
    file.seek(member.offset_data)
    return file.grant(member.size).read(member.size)
