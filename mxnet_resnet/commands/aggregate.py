"""Runs that differ in their seed alone, as one line each: `python tools/aggregate.py --logs log/*/train.log`.

Runs belong together whose names differ in what --seed matches alone (resnet20-seed1, resnet20-seed2). Prints a Markdown
table of the validation error of the last epoch and of the best one: mean and sample standard deviation, smallest and
largest value, number of runs, and parameters of the net, where the log tells.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys

from mxnet_resnet.base.arguments import Parser, output
from mxnet_resnet.base.files import check_writable, replacing
from mxnet_resnet.plot import aggregate, curves, logreader, logtext
from mxnet_resnet.runs import ownership


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--logs", nargs="+", required=True, help="train.log or metrics.jsonl of each run, or patterns")
    parser.add_argument("--metric", default="top1", help="what to sum up: top1, top5, cross-entropy ...")
    parser.add_argument("--seed", type=pattern, default=aggregate.SEED, help="what names of a group differ in")
    parser.add_argument("--csv", type=output, help="also write the table to this file, a column a figure")
    arguments = parser.parse_args()
    if arguments.csv:
        check_writable(arguments.csv)
        ownership.check_no_checkpoint(arguments.csv)
    paths = logtext.find_logs(arguments.logs)
    aggregate.check_different(paths)
    runs = [found for path in paths for found in logreader.read_all(path)]
    logreader.tell_notes(runs)
    groups, left_out = aggregate.without_diverged(aggregate.grouped(runs, arguments.seed), arguments.metric)
    for sentence in left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    rows = [aggregate.row(name, group, arguments.metric) for name, group in groups.items()]
    print(aggregate.markdown(rows, curves.LABELS.get(arguments.metric, arguments.metric)))
    if arguments.csv:
        with (
            replacing(arguments.csv) as (temporary,),
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,  # of any bytes: names
        ):
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def pattern(text: str) -> re.Pattern:
    """A regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
