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

from mxnet_resnet import engines
from mxnet_resnet.base.arguments import Parser, integer, number
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs.ownership import check_no_checkpoint
from mxnet_resnet.settings import netflags
from mxnet_resnet.use import chosen, writing
from mxnet_resnet.use import export as exporting
from mxnet_resnet.use.proof import NotProven

SUFFIXES = {"onnx": (".onnx",), "torch": writing.TORCH_SUFFIXES, "folded": (), "int8": ()}


def main() -> int:
    arguments = parse()
    check_flags(arguments)
    engine = engines.choose("mxnet")
    engine.load()

    choice = netflags.read(arguments)
    load = chosen.load_net_silently if arguments.to == "torch" else chosen.load_net
    net = load(choice, engine)
    try:
        sentences = write(arguments, net)
    except NotProven as reason:
        print(f"error: nothing was written to {arguments.out}: {reason}", file=sys.stderr)
        return 1
    files = arguments.out if SUFFIXES[arguments.to] else f"{arguments.out}-symbol.json and {arguments.out}-0000.params"
    print(f"Written: {files}")
    for sentence in sentences:
        print(f"  {sentence}")
    return 0


def write(arguments: argparse.Namespace, net: TrainedNet) -> list[str]:
    """Write ``net`` in the form that was asked for; sentences on what was written. Raises NotProven."""
    if arguments.to == "onnx":
        names = chosen.name_classes(net, netflags.read(arguments)) if net.activation else []
        return exporting.export_onnx(Path(arguments.out), net, names)
    if arguments.to == "torch":
        return exporting.export_torch(Path(arguments.out), net, arguments.layout)
    if arguments.to == "folded":
        return exporting.export_folded(arguments.out, net)
    calibration = exporting.Calibration(
        Path(arguments.calib),
        Path(arguments.val) if arguments.val else None,
        arguments.images,
        arguments.calib_mode,
        arguments.most,
    )
    return exporting.export_int8(arguments.out, net, calibration)


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--to", required=True, choices=sorted(SUFFIXES), help="what to write")
    parser.add_argument("--out", required=True, help="the file, or of folded and int8 the prefix, to write")
    parser.add_argument("--layout", choices=writing.LAYOUTS, help="names in a state_dict")
    parser.add_argument("--calib", help="records (.rec) to calibrate int8 on")
    parser.add_argument("--val", help="records to measure the error of int8 on (others of --calib)")
    parser.add_argument("--images", type=integer(), default=500, help="records to calibrate on, and to measure on")
    parser.add_argument(
        "--calib-mode", choices=["naive", "entropy"], default="naive", help="as in MXNet; entropy is slow"
    )
    parser.add_argument(
        "--most", type=number(0, 100), default=2.0, help="percent that the top-1 error may rise by in int8"
    )
    netflags.add(parser)
    return parser.parse_args()


def check_flags(arguments: argparse.Namespace) -> None:
    """Raise UserError for flags that do not go together."""
    suffixes = SUFFIXES[arguments.to]
    if suffixes and Path(arguments.out).suffix not in suffixes:
        raise UserError(f"--to {arguments.to} writes a file {' or '.join(suffixes)}, not {arguments.out}")
    if suffixes:
        check_no_checkpoint(Path(arguments.out))
    else:
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
