"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mxnet_resnet.errors import UserError


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths to write to, which take the places of ``paths`` when the block ends well, and vanish otherwise.

    Makes the folders. Raises UserError where the system refuses to write.
    """
    temporary = [path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for source, target in zip(temporary, paths):
            with source.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(source, target)
        for folder in {path.parent for path in paths}:
            _sync(folder)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or paths[0]}: {error.strerror}") from error
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink()


@contextmanager
def staged(*paths: Path) -> Iterator[list[Path]]:
    """As ``replacing``, but the temporary paths have the names of ``paths``, for what is read back by its name."""
    with replacing(*paths) as temporary, tempfile.TemporaryDirectory(prefix=".", dir=paths[0].parent) as folder:
        staging = [Path(folder, path.name) for path in paths]
        yield staging
        for source, target in zip(staging, temporary):
            os.replace(source, target)


def remove_abandoned(prefix: Path) -> None:
    """Remove what `replacing` was writing at paths that begin with ``prefix`` when its process was killed."""
    for path in prefix.parent.glob(f".{glob.escape(prefix.name)}*"):
        pid = path.stem.rpartition(".")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the names in a folder last beyond a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
