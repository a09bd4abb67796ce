"""Plot training curves from logs: `python log/plot_curve.py --logs a.log b.log --out=curve.png`.

Top-1 and top-5 error in percent over epochs, training dashed, validation solid, one colour a log; triangles where the
learning rate changes. With --mean, runs whose names differ in their seed alone (net-seed1, net-seed2) are one curve,
their mean, in a band of a sample standard deviation to each side. Reads the logs of this project (also metrics.jsonl),
of the MXNet ResNet-v2 repository, of Module.fit and of GluonCV; of several workers in one log, each is a curve. A
picture's format is its suffix: png, svg, pdf, ..., or html for a page that zooms.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from mxnet_resnet.base import files
from mxnet_resnet.base.arguments import Parser, integer, output
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import aggregate, curves, figures, logreader, logtext, means
from mxnet_resnet.runs import ownership


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--logs", nargs="+", required=True, help="logs, separated by spaces or commas, or patterns (*)")
    parser.add_argument("--names", help="of the runs in the legend, in their order, separated by commas")
    parser.add_argument("--out", type=output, default=Path("curve.png"), help="the picture, or page")
    parser.add_argument("--metric", help="what to draw: top1, top5, cross-entropy ... (top1, and top5 if told)")
    parser.add_argument("--mean", action="store_true", help="draw runs that differ in their seed as mean and deviation")
    parser.add_argument("--over", choices=curves.AXES, default="epoch", help="what to draw it over")
    parser.add_argument("--from", type=integer(0), default=0, dest="first", help="first epoch")
    parser.add_argument("--to", type=integer(0), dest="last", help="last epoch (all)")
    parser.add_argument("--table", action="store_true", help="print last and best values, time an epoch and images/s")
    parser.add_argument("--csv", type=output, help="also write the values to this file")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=10,
        type=integer(),
        metavar="SECONDS",
        help="draw again when logs grow, until Ctrl-C",
    )
    return parser.parse_args()


def draw(arguments: argparse.Namespace) -> None:
    """Read, draw and print once."""
    read = [(found, path) for path in logtext.find_logs(arguments.logs) for found in logreader.read_all(path)]
    runs, paths = [found for found, _ in read], [path for _, path in read]
    left_out: list[str] = []
    if arguments.mean:
        aggregate.check_different(paths)
        runs, left_out = means.average(aggregate.grouped(runs, re.compile(aggregate.SEED)))
    if arguments.names is not None:
        curves.rename(runs, arguments.names.split(","))
    elif not arguments.mean:
        curves.told_apart(runs, paths)
    metrics = curves.choose_metrics(runs, arguments.metric.split(",") if arguments.metric else None)
    last = float("inf") if arguments.last is None else arguments.last
    view = curves.View(metrics, arguments.over, arguments.first, last)
    runs, undrawn = curves.drawable(runs, view)
    logreader.tell_notes(runs)
    for sentence in left_out + undrawn:
        print(f"left out: {sentence}", file=sys.stderr)
    figures.draw(runs, view, arguments.out)
    if arguments.csv:
        with files.replacing(arguments.csv) as (temporary,):
            temporary.write_text(curves.as_csv(runs, view), encoding="utf-8", errors="backslashreplace")
    if arguments.table:
        print(curves.table(runs, view))
    for found in runs:
        name = f"{found.name}: " if len(runs) > 1 else ""
        print(f"{name}{curves.summary(curves.part(found, view), metrics[0])}, curve {arguments.out}", flush=True)


def watch(arguments: argparse.Namespace) -> None:
    """Draw whenever a log has changed; one that has no curve yet is waited for."""
    drawn: list | None = None
    told = None
    while True:
        try:
            now = [(path, _state(path)) for path in logtext.find_logs(arguments.logs)]
            if now != drawn:
                drawn = now
                draw(arguments)
        except UserError as error:
            if str(error) != told:
                print(f"waiting: {error}", file=sys.stderr, flush=True)
            told = str(error)
        time.sleep(arguments.watch)


def _state(log: Path) -> tuple[int, int] | None:
    try:
        status = log.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def main() -> None:
    arguments = parse()
    figures.check_format(arguments.out)
    ownership.check_no_checkpoint(arguments.out)
    if arguments.csv:
        files.check_writable(arguments.csv)
        ownership.check_no_checkpoint(arguments.csv)
    if arguments.watch:
        watch(arguments)
    else:
        draw(arguments)
