"""Files that are written whole or not at all."""

from __future__ import annotations

import os
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
    except OSError as error:
        raise UserError(f"cannot write {error.filename or paths[0]}: {error.strerror}") from error
    finally:
        for path in temporary:
            with suppress(OSError):
                path.unlink()
