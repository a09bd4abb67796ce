"""Log files as lines of plain text, and which files are meant."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]{0,1000}(?:\x07|\x1b\\)")  # colours, titles
_COLOUR = re.compile(r"\[[\d;:]{1,30}m(?![a-z])")  # some tools take the escape away
_ESCAPES = ("\x9b", "^[[", "\\x1b[", "\\u001b[", "\\033[", "\\e[")  # as others spell what begins a colour
_ESCAPED = re.compile(r"#0([0-3][0-7])")  # as syslog, and SageMaker, write a tab: #011
_RECORD = re.compile(  # where a line of a log begins; two workers may write to one line
    r"(?<=[\d,;])(?=(?:DEBUG|INFO|WARNING|ERROR):\w+:)|(?<=\d)(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} )"
    r"|(?<=[\d,;%])(?=(?:[A-Za-z]+\[\d+\] |\[[a-z]+ \d+(?: on \S{1,60})?\] (?:INFO:\w+:)?)?(?:Epoch|Iter|Iteration)\[)"
    r"|(?<=[\d,;%])(?=\[Epoch \d)"
)
_WORDS = ("epoch", "iter", "learning rate", "training images", "parameters", "namespace", "mixup")
LONGEST = 10_000  # letters of a line that are read; ours of all arguments has some 2,000
_NO_LINE = 100_000  # letters of a line before it is taken apart, where several workers' stand in one
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
    """The lines of a log that may tell something, each with its number from 1 on, and sentences on what is left out.

    Colour codes and escapes are taken away. Raises UserError where the file cannot be read.
    """
    text, told = _cut(_decode(sources.read(path, "log", sources.LARGEST_TEXT, streams=True)))
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
    for spelt in _ESCAPES:
        text = text.replace(spelt, "\x1b[")
    text = _COLOUR.sub("", _CONTROL.sub("", text))
    lines = list(enumerate(text.splitlines(), 1))
    if lines and not text.endswith(("\n", "\r")) and not _WHOLE.search(lines[-1][1]):
        number, last = lines.pop()  # 0.9 may have been 0.952927
        if re.search(r"\bval", last, re.IGNORECASE):
            told += [f"line {number}, the last, has no line break at its end and may be cut off: it is left out"]
    parts = [(number, part) for number, line in lines if _may_tell(line) for part in _RECORD.split(line)]
    if long := [number for number, part in parts if len(part) > LONGEST]:
        told.append(f"lines of more than {LONGEST:,} letters are read so far: {len(long)}, the first is {long[0]}")
    return [(number, part[:LONGEST]) for number, part in parts], told


def _may_tell(line: str) -> bool:
    """Whether a line has a word in it without which `loglines.parse` finds nothing."""
    small = line.lower()
    return any(word in small for word in _WORDS)


def _decode(data: bytes) -> str:
    """The text of a log.

    What a log tells is ASCII, which UTF-16 (of PowerShell, where ``>>`` puts it below other bytes) fills up with zeros.
    """
    return data.replace(b"\0", b"").decode("utf-8-sig", errors="replace").lstrip("\ufeff\ufffd")


def _cut(text: str) -> tuple[str, list[str]]:
    """A text without the ends of lines that no training writes, and a sentence on these."""
    lines = text.splitlines(keepends=True)
    long = [number for number, line in enumerate(lines, 1) if len(line) > _NO_LINE]
    if not long:
        return text, []
    cut = "".join(line if len(line) <= _NO_LINE else f"{line[:_NO_LINE]}\n" for line in lines)
    return cut, [f"lines of more than {_NO_LINE:,} letters are read so far: {len(long)}, the first is {long[0]}"]
