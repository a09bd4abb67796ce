"""Names of files, which may be of any bytes, where text is printed."""

from __future__ import annotations

import codecs
import io
from typing import TextIO

HANDLER = "mxnet_resnet.names"  # what Python calls `_write` by


def let_be_printed(stream: TextIO | None) -> None:
    """Let a stream take any text: bytes that are no text as they are, signs that its encoding lacks as escapes."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        codecs.register_error(HANDLER, _write)
        stream.reconfigure(errors=HANDLER)


def _write(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for the first sign that cannot be encoded, and where the next one is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    handler = "surrogateescape" if "\udc80" <= error.object[error.start] <= "\udcff" else "backslashreplace"
    first = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.lookup_error(handler)(first)
