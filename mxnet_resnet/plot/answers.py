"""What a net answers about images, as text, CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from typing import NamedTuple, TextIO

import numpy as np

from mxnet_resnet.base.names import let_be_printed

FORMATS = ("text", "csv", "jsonl")


class Answer(NamedTuple):
    """A class that an image may be of, by its number and name, with its probability."""

    label: int
    name: str
    probability: float


def best(probabilities: np.ndarray, names: Sequence[str], number: int) -> list[Answer]:
    """The ``number`` most probable classes, or all there are, of probabilities (classes,)."""
    order = np.argsort(-probabilities, kind="stable")[:number]
    return [Answer(int(label), names[label], float(probabilities[label])) for label in order]


class Writer:
    """Writes the answers about one image after another in one of FORMATS; ``titled`` puts names of images in text."""

    def __init__(self, kind: str, titled: bool, out: TextIO | None = None):
        self._write = {"text": self._text, "csv": self._csv, "jsonl": self._json_line}[kind]
        self._titled, self._out = titled, out or sys.stdout
        if kind != "jsonl":
            let_be_printed(self._out)
        self._table = csv.writer(self._out, lineterminator="\n")
        self._begun = False

    def write(self, image: str, label: int | None, found: Sequence[Answer]) -> None:
        """Write the answers about an image, the best first; ``label`` is its true class where that is known."""
        self._write(image, label, found)
        self._out.flush()

    def _text(self, image: str, label: int | None, found: Sequence[Answer]) -> None:
        if self._titled:
            print(image, file=self._out)
        print(f"top-1: {found[0].name} ({found[0].probability:.2%})", file=self._out)
        if len(found) > 1:
            others = "; ".join(f"{answer.name} ({answer.probability:.2%})" for answer in found)
            print(f"top-{len(found)}: {others}", file=self._out)

    def _csv(self, image: str, label: int | None, found: Sequence[Answer]) -> None:
        if not self._begun:
            self._table.writerow(["image", "label", "rank", "class", "name", "probability"])
            self._begun = True
        true = "" if label is None else label
        for rank, answer in enumerate(found, 1):
            self._table.writerow([image, true, rank, answer.label, answer.name, f"{answer.probability:.6f}"])

    def _json_line(self, image: str, label: int | None, found: Sequence[Answer]) -> None:
        top = [{"class": a.label, "name": a.name, "probability": round(a.probability, 6)} for a in found]
        content = {"image": image, "label": label, "top": top}
        line = json.dumps(content, ensure_ascii=False)
        print(line if self._takes(line) else json.dumps(content), file=self._out)

    def _takes(self, line: str) -> bool:
        """Whether all of a line can be written as it is; JSON has escapes for the rest."""
        return _is_text(line, getattr(self._out, "encoding", None) or "utf-8")


def _is_text(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
