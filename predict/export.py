#!/usr/bin/env python3
"""Take a trained net out of training: `python predict/export.py --prefix model/x --epoch 3 --to onnx --out net.onnx`.

--to onnx writes FILE.onnx for any batch size, its normalisation inside, class names in the metadata; torch a state_dict
(.pth or .safetensors); folded a checkpoint OUT-symbol.json, OUT-0000.params with fewer BatchNorms, which gives
probabilities; int8 such a one for the CPU, calibrated on records. What is written is computed and compared before it is
left on disk.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mxnet_resnet.arguments import Parser, shape, whole
from mxnet_resnet.errors import UserError, run

IMAGENET_SYNSET = Path(__file__).with_name("synset.txt")
IMAGENET_CLASSES = 1000
SUFFIXES = {"onnx": (".onnx",), "torch": (".pth", ".pt", ".safetensors"), "folded": (), "int8": ()}


def main() -> int:
    arguments = parse()
    check(arguments)

    from mxnet_resnet.deployment import NotProven

    try:
        sentences = {"onnx": onnx, "torch": torch, "folded": folded, "int8": int8}[arguments.to](arguments)
    except NotProven as reason:
        print(f"error: nothing was written to {arguments.out}: {reason}", file=sys.stderr)
        return 1
    files = arguments.out if SUFFIXES[arguments.to] else f"{arguments.out}-symbol.json and {arguments.out}-0000.params"
    print(f"Written: {files}")
    for sentence in sentences:
        print(f"  {sentence}")
    return 0


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--prefix", required=True, help="the checkpoint: PREFIX-symbol.json, PREFIX-0003.params")
    parser.add_argument("--epoch", type=whole(0), required=True, help="the number in the name of the .params file")
    parser.add_argument("--to", required=True, choices=sorted(SUFFIXES), help="what to write")
    parser.add_argument("--out", required=True, help="the file, or of folded and int8 the prefix, to write")
    parser.add_argument("--synset", help="class names, a line each (predict/synset.txt for 1000 classes, else numbers)")
    parser.add_argument("--image-shape", type=shape, help="input of a net that does not tell its own: 3,224,224")
    parser.add_argument("--mean", type=three, help="R,G,B in 0..255: put inside, for a net that does not normalise")
    parser.add_argument("--std", type=three, help="as --mean, the deviation")
    parser.add_argument("--layout", choices=["torchvision", "torch-resnet"], help="names in a state_dict")
    parser.add_argument("--calib", help="records (.rec) to calibrate int8 on")
    parser.add_argument("--val", help="records to measure the error of int8 on (others of --calib)")
    parser.add_argument("--images", type=whole(), default=500, help="records to calibrate on, and to measure on")
    parser.add_argument(
        "--calib-mode", choices=["naive", "entropy"], default="naive", help="as in MXNet; entropy is slow"
    )
    parser.add_argument("--most", type=percent, default=2.0, help="percent that the top-1 error may rise by in int8")
    return parser.parse_args()


def three(text: str) -> tuple[float, ...]:
    """``"123.7,116.3,103.5"`` as numbers, of R, G and B."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers in 0..255 such as 123.7,116.3,103.5")
    return numbers


def percent(text: str) -> float:
    """A number from 0 to 100."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return number


def check(arguments: argparse.Namespace) -> None:
    """Raise UserError for flags that do not go together."""
    suffixes = SUFFIXES[arguments.to]
    if suffixes and Path(arguments.out).suffix not in suffixes:
        raise UserError(f"--to {arguments.to} writes a file {' or '.join(suffixes)}, not {arguments.out}")
    if not suffixes and arguments.out == arguments.prefix:
        raise UserError(f"--out {arguments.out} would take the place of the checkpoint")
    if (arguments.mean is None) != (arguments.std is None) or 0 in (arguments.std or ()):
        raise UserError("--mean and --std go together, and no deviation is 0")
    if (arguments.to == "int8") != (arguments.calib is not None) or (arguments.val and not arguments.calib):
        raise UserError("int8 needs records to calibrate on: --calib data.rec, which like --val is for int8 alone")
    if arguments.to == "torch" and arguments.mean:
        raise UserError("a state_dict holds no normalisation of images: leave out --mean and --std")
    if arguments.layout and arguments.to != "torch":
        raise UserError("--layout is for --to torch")


def read(arguments: argparse.Namespace):
    """The checkpoint, as others run it."""
    from mxnet_resnet import deployment

    normalisation = (arguments.mean, arguments.std) if arguments.mean else None
    net = deployment.read(arguments.prefix, arguments.epoch, arguments.image_shape, normalisation)
    if not net.takes_bytes:
        print("The net does not normalise its images: --mean and --std put that inside", file=sys.stderr)
    return net


def onnx(arguments: argparse.Namespace) -> list[str]:
    from mxnet_resnet import classifier, onnx_side

    net = read(arguments)
    synset = arguments.synset or (IMAGENET_SYNSET if net.classes == IMAGENET_CLASSES else None)
    names = classifier.read_synset(synset, net.classes) if synset else [f"class {i}" for i in range(net.classes)]
    return [onnx_side.versions(), *onnx_side.export(Path(arguments.out), net, names)]


def torch(arguments: argparse.Namespace) -> list[str]:
    from mxnet_resnet import deployment

    return deployment.export_torch(Path(arguments.out), arguments.prefix, arguments.epoch, arguments.layout)


def folded(arguments: argparse.Namespace) -> list[str]:
    from mxnet_resnet import deployment

    return deployment.export_folded(arguments.out, read(arguments))


def int8(arguments: argparse.Namespace) -> list[str]:
    from mxnet_resnet import quantize

    net = read(arguments)
    calibration, others = quantize.samples(net, arguments.images, arguments.calib, arguments.val)
    return quantize.export(arguments.out, net, calibration, others, arguments.calib_mode, arguments.most)


if __name__ == "__main__":
    run(main)
