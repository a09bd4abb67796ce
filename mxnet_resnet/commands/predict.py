"""Classify images with a trained net: `python predict/predict.py --img test.jpg --prefix resnet-50 --epoch 0`.

A net whose output is not known to be scores of classes, as an embedding, is refused: --output names an operator that
gives some, and export.py writes the net with its output as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mxnet_resnet.base.arguments import Parser, integer, output
from mxnet_resnet.data import inputs
from mxnet_resnet.plot import answers, drawing
from mxnet_resnet.settings import netflags
from mxnet_resnet.use import chosen, predict


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument(
        "--img",
        nargs="+",
        default=["test.jpg"],
        help="images: files, folders, globs, a .lst, a .rec, or - for a list of any of these on standard input",
    )
    parser.add_argument("--root", type=Path, help="where the paths in a .lst begin (its folder, or the current one)")
    parser.add_argument("--topk", type=integer(), default=5, help="classes to tell of each image")
    parser.add_argument("--format", choices=answers.FORMATS, default="text", help="of the output")
    parser.add_argument("--out", type=output, help="draw the images with bars of their best classes")
    netflags.add_crops(parser, batch_size=32)
    netflags.add_gpu(parser)
    netflags.add(parser)
    arguments = parser.parse_args()

    engine = chosen.open_engine(arguments.engine, arguments.gpu)

    choice = netflags.read(arguments)
    net = chosen.load_net(choice, engine)
    names = chosen.name_classes(net, choice)
    if arguments.out:
        drawing.check_target(arguments.out)
    classifier = chosen.open_classifier(engine, net, arguments.gpu, arguments.batch_size, arguments.dtype)
    writer = answers.Writer(arguments.format, titled=not inputs.is_single(arguments.img))
    images, tally = inputs.find(arguments.img, arguments.root), predict.Tally()
    drawn: list[drawing.Drawn] = []
    for seen in predict.classify(images, classifier, arguments.crop, tally, bool(arguments.out)):
        best = answers.best(seen.probabilities, names, arguments.topk)
        writer.write(seen.source.name, seen.source.label, best)
        if seen.thumbnail is not None and len(drawn) < drawing.MOST_DRAWN:
            drawn.append(drawing.Drawn(seen.thumbnail, Path(seen.source.name).name, best))
    if drawn:
        drawing.save(drawing.grid(drawn), arguments.out)
        if tally.good > len(drawn):
            print(f"{arguments.out} has the first {len(drawn)} of {tally.good} images", file=sys.stderr)
    tally.tell()
    return tally.status
