"""Take a trained net out of training: `python predict/export.py --prefix model/x --epoch 3 --to onnx --out net.onnx`.

--to onnx writes FILE.onnx for any batch size, its normalisation inside, class names in the metadata; torch a state_dict
(.pth or .safetensors); folded a checkpoint OUT-symbol.json, OUT-0000.params with fewer BatchNorms, which gives
probabilities; int8 such a one for the CPU, calibrated on records. What is written is computed and compared before it is
left on disk.
"""

from __future__ import annotations

import argparse
import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.settings import netflags

if TYPE_CHECKING:
    from mxnet_resnet.use.nets import Net

SUFFIXES = {"onnx": (".onnx",), "torch": (".pth", ".pt", ".safetensors"), "folded": (), "int8": ()}


def main() -> int:
    arguments = parse()
    check(arguments)

    from mxnet_resnet.use.deployment import NotProven

    net = netflags.load_silently(arguments) if arguments.to == "torch" else netflags.load(arguments)
    try:
        sentences = {"onnx": onnx, "torch": torch, "folded": folded, "int8": int8}[arguments.to](arguments, net)
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
    parser.add_argument("--to", required=True, choices=sorted(SUFFIXES), help="what to write")
    parser.add_argument("--out", required=True, help="the file, or of folded and int8 the prefix, to write")
    parser.add_argument("--layout", choices=["torchvision", "torch-resnet"], help="names in a state_dict")
    parser.add_argument("--calib", help="records (.rec) to calibrate int8 on")
    parser.add_argument("--val", help="records to measure the error of int8 on (others of --calib)")
    parser.add_argument("--images", type=integer(), default=500, help="records to calibrate on, and to measure on")
    parser.add_argument(
        "--calib-mode", choices=["naive", "entropy"], default="naive", help="as in MXNet; entropy is slow"
    )
    parser.add_argument("--most", type=percent, default=2.0, help="percent that the top-1 error may rise by in int8")
    netflags.add(parser)
    return parser.parse_args()


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
    if not suffixes:
        check_prefix(arguments)
    if (arguments.to == "int8") != (arguments.calib is not None) or (arguments.val and not arguments.calib):
        raise UserError("int8 needs records to calibrate on: --calib data.rec, which like --val is for int8 alone")
    if arguments.to == "torch" and (arguments.mean or arguments.std):
        raise UserError("a state_dict holds no normalisation of images: leave out --mean and --std")
    if arguments.layout and arguments.to != "torch":
        raise UserError("--layout is for --to torch")


def check_prefix(arguments: argparse.Namespace) -> None:
    """Raise UserError unless the prefix --out is free, or that of an earlier export."""
    out = Path(arguments.out)
    if not arguments.params and out.resolve() == Path(arguments.prefix).resolve():
        raise UserError(f"--out {out} would take the place of the checkpoint")
    others = {*out.parent.glob(f"{glob.escape(out.name)}-[0-9]*.params")} - {Path(f"{out}-0000.params")}
    if others or Path(f"{out}-latest.json").exists():
        raise UserError(f"--out {out} is the prefix of another checkpoint, whose graph would be lost")


def onnx(arguments: argparse.Namespace, net: Net) -> list[str]:
    from mxnet_resnet.engines.mxnet import onnx
    from mxnet_resnet.use import deployment

    names = netflags.names(net, arguments)
    return [onnx.versions(), *onnx.export(Path(arguments.out), deployment.of(net), names)]


def torch(arguments: argparse.Namespace, net: Net) -> list[str]:
    from mxnet_resnet.use import deployment

    return deployment.export_torch(Path(arguments.out), net, arguments.layout)


def folded(arguments: argparse.Namespace, net: Net) -> list[str]:
    from mxnet_resnet.use import deployment

    return deployment.export_folded(arguments.out, deployment.of(net))


def int8(arguments: argparse.Namespace, net: Net) -> list[str]:
    from mxnet_resnet.engines.mxnet import int8
    from mxnet_resnet.use import deployment

    source = deployment.of(net)
    calibration, others = int8.samples(source, arguments.images, arguments.calib, arguments.val)
    return int8.export(arguments.out, source, calibration, others, arguments.calib_mode, arguments.most)
