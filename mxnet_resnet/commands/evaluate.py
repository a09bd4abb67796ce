"""Top-1 and top-5 error of a net on records: `python predict/evaluate.py --data val.rec --prefix resnet-50 --epoch 0`.

At 320 pixels: `--image-shape 3,320,320`.
"""

from __future__ import annotations

import json
from pathlib import Path

from mxnet_resnet.base import files
from mxnet_resnet.base.arguments import Parser, integer, output
from mxnet_resnet.runs import ownership
from mxnet_resnet.settings import netflags
from mxnet_resnet.use import chosen, evaluate
from mxnet_resnet.use.evaluate import Result


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .rec")
    parser.add_argument("--per-class", action="store_true", help="print the error of each class")
    parser.add_argument("--confusion", type=integer(), default=0, metavar="N", help="print the N most frequent errors")
    parser.add_argument("--json", type=output, help="write all of it to a file")
    netflags.add_crops(parser, batch_size=64)
    netflags.add_gpu(parser)
    netflags.add(parser)
    arguments = parser.parse_args()
    if arguments.json:
        files.check_writable(arguments.json)
        ownership.check_no_checkpoint(arguments.json)

    engine = chosen.open_engine(arguments.engine, arguments.gpu)

    choice = netflags.read(arguments)
    net = chosen.load_net(choice, engine)
    names = chosen.name_classes(net, choice)
    classifier = chosen.open_classifier(engine, net, arguments.gpu, arguments.batch_size, arguments.dtype)
    result = evaluate.evaluate_records(classifier, arguments.data, arguments.crop)
    print(evaluate.describe(result))
    if arguments.per_class:
        print_classes(result, names)
    for true, taken, count in result.confusions(arguments.confusion):
        print(f"{count:6}  {names[true]} taken for {names[taken]}")
    if arguments.json:
        asked = {"net": net.name, "data": str(arguments.data), "crop": arguments.crop, "input": net.image_shape}
        with files.replacing(arguments.json) as (temporary,):
            content = {**asked, **result.as_json(names, arguments.confusion or 20)}
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def print_classes(result: Result, names: list[str]) -> None:
    """Print a line a class: its top-1 error in percent, its records, its name."""
    print("error %  records  class")
    for label, count, error in result.per_class():
        print(f"{error:7.2f}  {count:7}  {names[label]}")
