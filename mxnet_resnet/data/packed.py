"""Tar files that may be compressed."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from mxnet_resnet.base import sources

MARKS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"]\0\0": "xz"}  # the last is LZMA's own


def open_tar(path: Path, what: str) -> tarfile.TarFile:
    """A tar file, open, unpacked as its first bytes ask for; tried one by one, xz reads zeros to their end.

    Raises UserError where it cannot be read, and what tarfile and the packers do where it is none.
    """
    with sources.open_file(path, what) as file:
        begin = file.read(max(map(len, MARKS)))
    kind = next((kind for mark, kind in MARKS.items() if begin.startswith(mark)), "")
    mode: Any = f"r:{kind}"
    return tarfile.open(path, mode)
