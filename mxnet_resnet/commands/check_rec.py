"""Check record files before training: `python tools/check_rec.py train.rec val.rec`.

Looks at the magic words, lengths, alignment and continuation flags, at the .idx beside the file, decodes every image,
and tells the labels, their order, the sizes, the channels and the colours. Each thing that is wrong has a line with the
file, the number of the record (from 0) and its byte; after damage it goes on with the next record. Copies of an image,
in a file or in two of the files, are a note.

Exit status: 0 when all is well, 1 when something is wrong, 2 when the command cannot be carried out. The labels of a
training file in order are wrong too: the classes have to be shuffled.
"""

from __future__ import annotations

import json
from pathlib import Path

from mxnet_resnet.base.arguments import Parser, integer, output
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_picture
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.check import Report, check_file, find_copies, summarize
from mxnet_resnet.data.checkindex import check_index
from mxnet_resnet.data.contactsheet import draw_sheet
from mxnet_resnet.data.repair import find_free_prefix, repair


def describe(report: Report) -> list[str]:
    """The findings and the summary of a file for people."""
    told = summarize(report)
    text = report.describe_findings()
    text.append(f"{report.path}: {told['records']:,} records, {told['good']:,} of them good")
    if "labels" in told:
        text += [f"  {line}" for line in describe_images(told)]
    return text + [f"  note: {note}" for note in report.notes]


def describe_images(told: dict) -> list[str]:
    """The part of a summary that only good records give."""
    labels = told["labels"]
    few, many = min(labels, key=labels.get), max(labels, key=labels.get)
    width, height = ([f"{told[side][name]:g}" for name in ("min", "median", "max")] for side in ("width", "height"))
    channels = ", ".join(f"{count:,} with {number}" for number, count in told["channels"].items())
    mean, deviation = (", ".join(f"{value:.2f}" for value in told[name]) for name in ("mean", "deviation"))
    lowest, highest = next(iter(labels)), next(reversed(labels))
    return [
        f"labels: {len(labels):,} from {lowest} to {highest}, {told['missing_labels']:,} missing between; "
        f"{labels[few]:,} (label {few}) to {labels[many]:,} (label {many}) images each",
        f"order: {told['order']['changes']:,} changes of label, {told['order']['expected']:,.0f} in a random order",
        f"size (least, median, most): width {', '.join(width)}; height {', '.join(height)}",
        f"stored channels: {channels}",
        f"RGB, 0..255: mean {mean}; standard deviation {deviation}",
    ]


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .rec")
    sheet = "draw random images over their label and # the number of their record (1: or 2: is the file, of several)"
    parser.add_argument("--sheet", type=output, metavar="PNG", help=sheet)
    mended = "write OUT.rec, .idx and .lst without bad records, and shuffled where the labels are in order"
    parser.add_argument("--seed", type=integer(0), default=0, help="of --sheet, and of the order of --repair")
    parser.add_argument("--repair", type=Path, metavar="OUT", help=mended)
    parser.add_argument("--json", action="store_true", help="print JSON")
    imagebounds.add_flag(parser)
    arguments = parser.parse_args()
    imagebounds.allow(arguments.max_pixels)
    for path in arguments.files:
        if not path.is_file():
            raise UserError(f"there is no record file {path}")
    if arguments.sheet:
        check_picture(arguments.sheet)
    if arguments.repair and len(arguments.files) > 1:
        raise UserError("--repair takes one file at a time")
    prefix = find_free_prefix(arguments.files[0], arguments.repair) if arguments.repair else None

    reports = []
    for path in arguments.files:
        reports.append(check_file(path))
        check_index(reports[-1])
        if not arguments.json:
            print(*describe(reports[-1]), sep="\n")
    notes = find_copies(reports)
    if arguments.json:
        print(json.dumps({"files": [summarize(report) for report in reports], "notes": notes}, indent=2))
    elif notes:
        print(*(f"note: {note}" for note in notes), sep="\n")
    if arguments.sheet and any(report.numbers for report in reports):
        draw_sheet(reports, arguments.sheet, arguments.seed)
    if prefix:
        done = repair(reports[0], prefix, arguments.seed)
        if not arguments.json:
            print(done)
    return int(any(report.wrong for report in reports))
