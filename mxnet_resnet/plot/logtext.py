"""Log files as lines of plain text, and which files are meant."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\[\d{1,3}(?:;\d{1,3})*m(?![a-z])")  # some tools take the escape away
_ESCAPED = re.compile(r"#0([0-3][0-7])")  # as syslog, and SageMaker, write a tab: #011
_RECORD = re.compile(  # where a line of a log begins; two workers may write to one line
    r"(?<=[\d,;])(?=(?:DEBUG|INFO|WARNING|ERROR):\w+:)|(?<=\d)(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} )"
)
_WHOLE = re.compile(r"(\.\d{6}[,;]?|\})\s*$")


def find_logs(names: Sequence[str]) -> list[Path]:
    """The logs that ``--logs`` names: files, several to a word where commas stand between, and patterns (``*``).

    Raises UserError where a pattern fits no file, or where no log is named.
    """
    found = [path for name in names for path in _find(name)]
    if not found:
        raise UserError("--logs names no log")
    return found


def _find(name: str) -> list[Path]:
    if _exists(name):
        return [Path(name)]
    if "," in name:
        return [path for part in name.split(",") if part.strip() for path in _find(part.strip())]
    if not glob.has_magic(name):
        return [Path(name)]
    found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
    if not found:
        raise UserError(f"--logs {name}: no file has a name of this pattern")
    return list(map(Path, found))


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def read_lines(path: Path) -> tuple[list[tuple[int, str]], list[str]]:
    """The lines of a log, each with its number from 1 on, and a sentence where the last one was cut off.

    Colour codes and escapes are taken away. Raises UserError where the file cannot be read.
    """
    text = clean(sources.read(path, "log", sources.LARGEST_TEXT, streams=True))
    lines = list(enumerate(text.splitlines(), 1))
    told = []
    if lines and not text.endswith(("\n", "\r")) and not _WHOLE.search(lines[-1][1]):
        number, last = lines.pop()  # 0.9 may have been 0.952927
        if re.search(r"\bval", last, re.IGNORECASE):
            told = [f"line {number}, the last, has no line break at its end and may be cut off: it is left out"]
    return [(number, part) for number, line in lines for part in _RECORD.split(line)], told


def clean(data: bytes) -> str:
    """The text of a log.

    What a log tells is ASCII, which UTF-16 (of PowerShell, where ``>>`` puts it below other bytes) fills up with zeros.
    """
    text = data.replace(b"\0", b"").decode("utf-8-sig", errors="replace").lstrip("\ufeff\ufffd")
    return _COLOUR.sub("", _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text))
