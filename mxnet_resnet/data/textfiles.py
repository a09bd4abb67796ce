"""Text that people write, with whatever editor they have."""

from __future__ import annotations

import codecs
from pathlib import Path

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, or in what the mark at its beginning says. Raises UserError, which says ``what``."""
    data = sources.read(path, what, sources.LARGEST_TEXT, streams=True)
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding).lstrip("\ufeff")  # a second mark, of text that was marked before it was recoded
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {what} {path}: byte {error.start} is not UTF-8 text: save it in UTF-8") from error
