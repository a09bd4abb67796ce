"""The report of a run, one page that needs nothing but itself: ``report.html``, and ``curve.png`` beside it."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.places import check_no_pipe
from mxnet_resnet.data.classnames import find_names, number_class, read_class_names
from mxnet_resnet.data.datasets import IMAGENET_SYNSET
from mxnet_resnet.data.decoding import decode
from mxnet_resnet.data.recordio import RecordFile
from mxnet_resnet.plot import curves, figures, logreader
from mxnet_resnet.plot.run import ERRORS, Run
from mxnet_resnet.runs import metrics
from mxnet_resnet.runs.meters import Confusions

PAIRS, LARGEST_SIDE = 9, 96
STYLE = """
body { font: 15px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; color: #1d2733; background: #f3f5f8; margin: 0 }
main { max-width: 1040px; margin: 0 auto; padding: 32px 24px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 17px; margin: 0 0 12px }
.note { color: #647182; margin: 4px 0 20px }
section { background: #fff; border: 1px solid #dfe4ea; border-radius: 10px; padding: 20px 24px; margin-top: 18px }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 14px }
.card { background: #fff; border: 1px solid #dfe4ea; border-radius: 10px; padding: 14px 18px }
.card b { display: block; font-size: 25px; line-height: 1.3; font-weight: 600 }
.card span { color: #647182; font-size: 13px }
svg { width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-size: 14px }
td, th { text-align: left; padding: 4px 16px 4px 0; border-bottom: 1px solid #edf0f3; vertical-align: top }
th { color: #647182; font-weight: 500 } td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.arguments { columns: 2; column-gap: 36px } .arguments div { break-inside: avoid; display: flex; gap: 12px;
  border-bottom: 1px solid #edf0f3; padding: 3px 0; font-size: 14px }
.arguments dt { color: #647182; flex: 0 0 42% } .arguments dd { margin: 0; overflow-wrap: anywhere }
.given dt, .given dd { color: #1d2733; font-weight: 600 }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(295px, 1fr)); gap: 18px }
.pairs p { margin: 0 } .pairs span { color: #647182; font-size: 13px }
.pairs img { height: 44px; margin: 4px 4px 0 0; border-radius: 3px; image-rendering: pixelated }
@media (max-width: 700px) { .arguments { columns: 1 } }
@media print { body { background: #fff } section { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Subject:
    """A run as its report tells it.

    Attributes:
        title: the net, the data and the epochs in a line.
        arguments: every flag with its value; ``given`` are those that did not have it by default.
        notes: sentences that the log has after the arguments.
        versions: of what computed.
        memory: MB that were taken, by where.
        classes: names of the classes; those that are not known are missing.
    """

    title: str
    arguments: Mapping[str, Any]
    given: frozenset[str]
    notes: Sequence[str]
    versions: Mapping[str, str]
    memory: Mapping[str, float]
    classes: Mapping[int, str]


def attempt(folder: Path, subject: Subject, records: RecordFile, confusions: Confusions) -> None:
    """As `write`; what goes wrong is told in the log alone, for the training is done and saved."""
    try:
        write(folder, subject, records, confusions)
    except Exception as error:
        logging.warning("There is no report: %s (%s)", error, type(error).__name__)


def write(folder: Path, subject: Subject, records: RecordFile, confusions: Confusions) -> None:
    """Write the report of the run whose logs lie in ``folder``; ``records`` are those that it was validated on."""
    picture_path, page_path = folder / "curve.png", folder / "report.html"
    check_no_pipe(picture_path, page_path)
    run = _read(folder)
    told = {**subject.versions, **{name: f"{mb:,.0f} MB" for name, mb in subject.memory.items()}}
    metrics = curves.choose_metrics([run], None)
    drawn = figures.figure([run], curves.View(metrics))
    svg = io.StringIO()
    drawn.savefig(svg, format="svg")
    parts = [
        _cards(run, subject.memory),
        _section("Error", svg.getvalue()[svg.getvalue().index("<svg") :] + _errors(run)),
        _section("Most confused classes", _confused(confusions, records, subject.classes)),
        _section("Arguments", _arguments(subject) + "".join(f"<p>{escape(note)}</p>" for note in subject.notes)),
        _section("Environment", _table(told.items())),
    ]
    with replacing(picture_path, page_path) as (picture, page):
        drawn.savefig(picture, dpi=150, format="png")
        page.write_text(_page(run.name, subject.title, "\n".join(parts)), encoding="utf-8", errors="backslashreplace")
    logging.info('Saved report to "%s"', page_path)


def _read(folder: Path) -> Run:
    """The run, from its figures, unless those begin later than its log, as in a run begun before there were any."""
    runs = [logreader.read(folder / name) for name in (metrics.NAME, "train.log")]
    return max(runs, key=lambda run: len(run.epochs))


def _page(name: str, title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body><main>'
        f'<h1>{escape(name)}</h1><p class="note">{escape(title)}</p>\n'
        f"{body}\n</main></body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _cards(run: Run, memory: Mapping[str, float]) -> str:
    """The figures that one looks for first."""
    cards = []
    for metric in (name for name in ERRORS if run.told("validation", name)):
        last, best = run.told("validation", metric)[-1], curves.best_point(run, metric)
        for which, (epoch, error) in {"last": last, **({"best": best} if best else {})}.items():
            cards.append((f"{error:.2f}%", f"{curves.title(metric)}, {which} (epoch {epoch})"))
    speed, seconds = curves.images_a_second(run), [epoch.seconds for epoch in run.epochs.values() if epoch.seconds]
    if speed:
        cards.append((f"{speed:,.0f}", "images/s in training"))
    usual = curves.seconds_an_epoch(run)
    if seconds and usual is not None:
        cards.append((_duration(sum(seconds)), f"of training, {_duration(usual)} an epoch"))
        waits = sum(epoch.wait or 0 for epoch in run.epochs.values())
        cards.append((f"{100 * waits / sum(seconds):.1f}%", "of it waiting for data"))
    cards += [(f"{value:,.0f} MB", name[0].lower() + name[1:]) for name, value in memory.items()]
    blocks = (f'<div class="card"><b>{figure}</b><span>{escape(text)}</span></div>' for figure, text in cards)
    return f'<div class="cards">{"".join(blocks)}</div>'


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _errors(run: Run) -> str:
    """The last and the best value of each metric."""
    rows: list[Sequence[str]] = [("", "last, training", "last, validation", "best, validation", "in epoch")]
    for metric in run.metrics():
        train, validation = run.told("train", metric), run.told("validation", metric)
        best_epoch, best = (curves.best_point(run, metric) if validation else None) or (None, None)
        values = (train[-1][1] if train else None, validation[-1][1] if validation else None, best)
        told = ("-" if value is None else f"{value:.4g}" for value in values)
        rows.append((curves.LABELS.get(metric, metric), *told, "-" if best_epoch is None else str(best_epoch)))
    return _table(rows)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells, the first of each naming it."""
    lines = []
    for name, *values in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _arguments(subject: Subject) -> str:
    """All flags that have a value, those that were given in bold."""
    lines = []
    for name, value in subject.arguments.items():
        if value is not None:
            kind = ' class="given"' if name in subject.given else ""
            lines.append(f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>")
    return f'<dl class="arguments">{"".join(lines)}</dl>'


def _confused(confusions: Confusions, records: RecordFile, names: Mapping[int, str]) -> str:
    """A block for each pair of classes, with images of it."""
    blocks = []
    for pair in confusions.worst(PAIRS):
        label, taken = (escape(names.get(number) or number_class(number)) for number in (pair.label, pair.taken))
        share = f"{pair.count:,} of {pair.total:,} images ({100 * pair.count / pair.total:.1f}%)"
        pictures = "".join(_picture(records, number) for number in pair.records)
        blocks.append(f"<div><p><b>{label}</b> taken for <b>{taken}</b><br><span>{share}</span></p>{pictures}</div>")
    whose = f'<p class="note">Of every {confusions.step}th image, those of the first worker.</p>'
    none = "<p>None: after the last epoch each of the validation images is classified right.</p>"
    body = f'<div class="pairs">{"".join(blocks)}</div>' if blocks else none
    return whose + body if confusions.step > 1 else body


def _picture(records: RecordFile, number: int) -> str:
    """A record as it is stored, made smaller."""
    image = decode(records.read(number).image)
    factor = LARGEST_SIDE / max(image.shape[:2])
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".png", image[:, :, ::-1])
    source = f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"
    return f'<img alt="record {number}" title="record {number}" src="{source}">'


def name_classes(records: Path, classes: int, of_imagenet: bool) -> dict[int, str]:
    """Names of the classes, from the list beside the records if there is one; none where they are not known."""
    for path in (find_names(records), records.with_name("synset.txt"), IMAGENET_SYNSET if of_imagenet else None):
        if path is None:
            continue
        try:
            names = read_class_names(path, classes)
        except UserError:
            continue
        return {number: re.sub(r"^n\d{8} ", "", name).split(",")[0] for number, name in enumerate(names)}
    return {}
