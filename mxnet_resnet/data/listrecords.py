"""Records made from lists of image files: jobs that go on where they stopped, and tell what they left out."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.files import check_own, explaining_refusals, replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.encoder import Encoder
from mxnet_resnet.data.lists import ListLine, Skipped, read_list
from mxnet_resnet.data.writer import RecordWriter


class NothingReadable(Exception):
    """Of no image of a list can a record be made."""


class SkippedFile:
    """What a job has left out so far, by the keys of its list, in a file that outlives it when it is interrupted.

    What is there counts if it is of a job with the same ``settings``; ``finished`` tells whether that came to its end.
    """

    def __init__(self, path: Path, settings: str):
        check_own(path)
        self.path, self.settings = path, settings
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        lines = lines[1:] if lines[:1] == [settings] else []
        self.finished = lines[-1:] == ["finished"]
        columns = [line.split("\t") for line in lines if "\t" in line]
        self.skipped = {int(key): Skipped(path, reason) for key, path, reason in columns}

    def keep(self, keys: set[int]) -> None:
        """Begin, with what is known of ``keys`` from before."""
        self.finished = False
        self.skipped = {key: skipped for key, skipped in self.skipped.items() if key in keys}
        self._write()

    def add(self, key: int, skipped: Skipped) -> None:
        """Note that an image is left out. Raises UserError where the system does not write."""
        self.skipped[key] = skipped
        with explaining_refusals(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_format(key, skipped))

    def finish(self, skipped: Iterable[Skipped] | None = None) -> None:
        """Note that the job has come to its end, and, where there are no keys, what all it left out."""
        if skipped is not None:
            self.skipped = dict(enumerate(skipped))
        self.finished = True
        self._write()

    def _write(self) -> None:
        with replacing(self.path) as (file,):
            lines = [f"{self.settings}\n", *(_format(*item) for item in self.skipped.items())]
            file.write_text("".join(lines) + "finished\n" * self.finished, encoding="utf-8")


def _format(key: int, skipped: Skipped) -> str:
    path = skipped.path.encode(errors="backslashreplace").decode()
    path = path.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"{key}\t{path}\t{skipped.reason}\n"


def write_records(path: Path, root: Path, encoder: Encoder, workers: int) -> tuple[list[ListLine], SkippedFile]:
    """Make the records of a list, or what is left to do of them, from images in ``root``: the lines, and what is not
    among the records. Raises UserError.
    """
    prefix = path.with_suffix("")
    lines = read_list(path)
    settings = hashlib.sha256(path.read_bytes() + repr((root.resolve(), encoder)).encode()).hexdigest()
    skipped = SkippedFile(prefix.with_name(f".{prefix.name}.bad.part"), settings)
    record, index = (prefix.with_name(f"{prefix.name}{ending}") for ending in (".rec", ".idx"))
    if not (skipped.finished and record.is_file() and index.is_file()):
        try:
            _convert(prefix, lines, root, encoder, workers, skipped)
        except NothingReadable:
            for part in prefix.parent.glob(f".{glob.escape(prefix.name)}.*.part"):
                part.unlink()
        skipped.finish()
    return lines, skipped


def _convert(
    prefix: Path, lines: list[ListLine], root: Path, encoder: Encoder, workers: int, skipped: SkippedFile
) -> None:
    def read(line: ListLine) -> bytes | str:
        return encoder.read(root / line.path)

    with RecordWriter(prefix, {"job": skipped.settings}, listing=False) as writer:  # the list is given, and stays
        done = 0 if writer.last_key is None else 1 + [line.key for line in lines].index(writer.last_key)
        skipped.keep({line.key for line in lines[:done]})
        with closing(compute_ahead(read, lines[done:], workers)) as images:
            for line, image in progress(images, prefix.name, len(lines), done):
                if isinstance(image, bytes):
                    writer.write(line.key, line.label, image, line.path)
                else:
                    skipped.add(line.key, Skipped(line.path, image))
        if not writer.count:
            raise NothingReadable


def write_report(path: Path, jobs: Sequence[SkippedFile]) -> int:
    """All that the jobs left out, one a line, in ``path``, in the place of their own files: how many there are.

    Where nothing was left out, there is no such file.
    """
    lines = [_format(*item).partition("\t")[2] for job in jobs for item in job.skipped.items()]
    if lines:
        with replacing(path) as (file,):
            file.write_text("".join(lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)
    for job in jobs:
        job.path.unlink(missing_ok=True)
    return len(lines)
