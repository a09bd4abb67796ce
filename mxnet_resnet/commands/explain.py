"""Draw where in images a net sees its classes (Grad-CAM): `python predict/explain.py --img test.jpg --out heat.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mxnet_resnet.base.arguments import Parser, integer, integers, output
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import inputs
from mxnet_resnet.plot import answers, drawing
from mxnet_resnet.runs import ownership
from mxnet_resnet.settings import netflags
from mxnet_resnet.use import chosen, predict

MOST_CLASSES = 10  # heat maps beside an image


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--img", nargs="+", default=["test.jpg"], help="images, as predict.py takes them")
    parser.add_argument("--root", type=Path, help="where the paths in a .lst begin, as predict.py has it")
    parser.add_argument("--classes", type=integers, help="numbers of the classes to look for: 281,282 (the best ones)")
    parser.add_argument(
        "--topk", type=integer(high=MOST_CLASSES), default=1, help="how many of the best classes to look for"
    )
    parser.add_argument("--out", type=output, default=Path("heat.png"), help="the picture")
    netflags.add_gpu(parser)
    netflags.add(parser)
    arguments = parser.parse_args()

    engine = chosen.open_engine(arguments.engine, arguments.gpu)

    choice = netflags.read(arguments)
    net = chosen.load_net(choice, engine)
    names = chosen.name_classes(net, choice)
    drawing.check_target(arguments.out)
    ownership.check_no_checkpoint(arguments.out)
    if len(arguments.classes or ()) > MOST_CLASSES:
        raise UserError(f"--classes takes at most {MOST_CLASSES}")
    for label in arguments.classes or ():
        if label >= len(names):
            raise UserError(f"there is no class {label}: the net has 0 to {len(names) - 1}")
    classifier = chosen.open_classifier(engine, net, arguments.gpu, drawing.MOST_DRAWN)
    cam = chosen.open_gradcam(engine, net, arguments.gpu)
    tally = predict.Tally()
    drawn: list[drawing.Drawn] = []
    heats: list[list[np.ndarray]] = []
    for seen in predict.classify(inputs.find(arguments.img, arguments.root), classifier, "center", tally):
        if len(drawn) == drawing.MOST_DRAWN:
            print(f"{arguments.out} has the first {len(drawn)} images", file=sys.stderr)
            break
        best = answers.best(seen.probabilities, names, len(names))
        shown = [best[[one.label for one in best].index(label)] for label in arguments.classes or ()]
        shown = shown or best[: arguments.topk]
        drawn.append(drawing.Drawn(seen.crops[0], Path(seen.source.name).name, shown))
        heats.append(cam.maps(seen.crops[0], [answer.label for answer in shown]))
        print(f"{seen.source.name}: " + "; ".join(f"{answer.name} ({answer.probability:.2%})" for answer in shown))
    if drawn:
        drawing.save(drawing.overlays(drawn, heats), arguments.out)
    tally.tell()
    return tally.status
