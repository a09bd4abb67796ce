"""Record files written in order and whole: an interrupted job goes on where it stopped."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_own, check_writable, explaining_refusals, keep_owner, locked
from mxnet_resnet.data.recordio import (
    FIRST_PART,
    IMAGE_HEADER,
    LARGEST_PIECE,
    LAST_PART,
    MAGIC,
    MIDDLE_PART,
    RECORD_HEADER,
    SPLIT_AT,
    WHOLE,
)


def frame(data: bytes) -> bytes:
    """``data`` as a record of a RecordIO file: cut where an aligned word of it is the magic one, padded to 4 bytes."""
    pieces = []
    begin = 0
    at = data.find(SPLIT_AT)
    while at >= 0:
        if at % 4 == 0:
            pieces.append(data[begin:at])
            begin = at + 4
            at = data.find(SPLIT_AT, begin)
        else:
            at = data.find(SPLIT_AT, at + 1)
    pieces.append(data[begin:])
    if max(map(len, pieces)) > LARGEST_PIECE:
        raise UserError(f"a record cannot have {len(data)} bytes: the format ends at {LARGEST_PIECE}")
    flags = [FIRST_PART, *[MIDDLE_PART] * (len(pieces) - 2), LAST_PART] if len(pieces) > 1 else [WHOLE]
    framed = (
        RECORD_HEADER.pack(MAGIC, flag << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
        for flag, piece in zip(flags, pieces)
    )
    return b"".join(framed)


class RecordWriter:
    """``PREFIX.rec``, ``PREFIX.idx`` and ``PREFIX.lst``, which appear when all is written.

    Until then the files are ``.NAME.rec.part`` and so on. Where such files are left of an interrupted job with the same
    ``settings``, it goes on behind their last whole record, whose key is ``last_key`` (None at a fresh start). Without
    settings no parts are left.

        with RecordWriter(prefix, {"seed": 0}) as writer:
            for key, label, image, name in rest_after(writer.last_key):
                writer.write(key, label, image, name)

    Without ``listing`` there is no .lst at the end. An exception inside the block leaves the parts for the next time.
    Raises UserError where the system does not write, or another process writes the same records.
    """

    def __init__(self, prefix: Path, settings: Mapping[str, object] | None = None, listing: bool = True):
        self.targets = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".rec", ".idx", ".lst")]
        self._written = self.targets if listing else self.targets[:2]
        self._parts = [path.with_name(f".{path.name}.part") for path in self.targets]
        self._note = prefix.with_name(f".{prefix.name}.settings.part")
        self._lock = prefix.with_name(f".{prefix.name}.lock")
        self._locked = ExitStack()
        self._resumable = settings is not None
        self._advice = "; run again to go on" if self._resumable else ""
        self._settings = json.dumps(settings, sort_keys=True, default=str)
        self.last_key: int | None = None
        self.count = 0

    def __enter__(self) -> RecordWriter:
        with ExitStack() as stack:
            stack.enter_context(locked(self._lock, "these records are being written, wait until they are there"))
            self._open()
            self._locked = stack.pop_all()
        return self

    def _open(self) -> None:
        for target in self._written:
            if check_writable(target).stream or target.is_symlink():
                raise UserError(f"cannot write records to {target}: it is a link, a device or a pipe")
        check_own(*self._parts, self._note)
        with explaining_refusals(self.targets[0]):
            if self._resumable and self._note.is_file() and self._note.read_text() == self._settings:
                self._recover()
            else:
                for part in self._parts:
                    part.write_bytes(b"")
                self._note.write_text(self._settings)
            self._record, self._index, self._list = (part.open("ab") for part in self._parts)

    def _recover(self) -> None:
        """Cut the parts behind the last record that is whole in all three."""
        records, index, listing = self._parts
        lines = [part.read_bytes().splitlines(keepends=True) if part.exists() else [] for part in (index, listing)]
        whole = [[line for line in part if line.endswith(b"\n")] for part in lines]
        self.count = min(map(len, whole))
        size = records.stat().st_size if records.exists() else 0
        end = 0
        with records.open("ab+") as file:
            while self.count and not (end := _end_of_record(file, int(whole[0][self.count - 1].split()[1]), size)):
                self.count -= 1
            file.truncate(end)
        for part, kept in zip((index, listing), whole):
            part.write_bytes(b"".join(kept[: self.count]))
        if self.count:
            self.last_key = int(whole[0][self.count - 1].split()[0])

    def write(self, key: int, label: float, image: bytes, name: str) -> None:
        """Add an encoded image with its label; ``name`` is for the list."""
        with explaining_refusals(self.targets[0], self._advice):
            self._index.write(f"{key}\t{self._record.tell()}\n".encode())
            self._record.write(frame(IMAGE_HEADER.pack(0, label, key, 0) + image))
            self._list.write(f"{key}\t{label:g}\t{name}\n".encode())
        self.count += 1
        self.last_key = key

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._locked:
            self._close(kind)

    def _close(self, kind: type[BaseException] | None) -> None:
        files = (self._record, self._index, self._list)
        refusals = explaining_refusals(self.targets[0], self._advice) if kind is None else suppress(OSError)
        with refusals:
            with ExitStack() as closing:
                for file in files:
                    closing.callback(file.close)  # all of them, also where a flush fails
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                for part, target in reversed(list(zip(self._parts, self._written))):
                    keep_owner(part, target)
                    os.replace(part, target)
            if kind is None or not self._resumable:
                for path in (*self._parts, self._note):
                    path.unlink(missing_ok=True)


def _end_of_record(file: BinaryIO, offset: int, size: int) -> int:
    """Where the record that begins at ``offset`` ends, or 0 where it is not whole."""
    flag = FIRST_PART
    while flag in (FIRST_PART, MIDDLE_PART):
        file.seek(offset)
        header = file.read(RECORD_HEADER.size)
        if len(header) < RECORD_HEADER.size:
            return 0
        magic, word = struct.unpack("<II", header)
        flag, length = word >> 29, word & LARGEST_PIECE
        offset += RECORD_HEADER.size + (length + 3) // 4 * 4
        if magic != MAGIC or offset > size:
            return 0
    return offset
