"""Convert a ResNet checkpoint, and prove that the result computes the same: `python tools/convert.py SOURCE TARGET`.

SOURCE is an MXNet checkpoint (its prefix, with --epoch, or one of its files), a Gluon .params file, or a PyTorch
state_dict (.pth, .pth.tar, .ckpt, .safetensors, ...) of torch-resnet, torchvision, timm or pytorch_resnet_cifar10.
TARGET is a prefix (PREFIX-symbol.json and PREFIX-0000.params), a .params file for Gluon's load_parameters, or a .pth or
.safetensors file for PyTorch.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mxnet_resnet import engines
from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import locked
from mxnet_resnet.base.places import find_place
from mxnet_resnet.data import imagebounds
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint, ownership
from mxnet_resnet.use import proof, reading, writing

OTHER_SUFFIXES = (".th", ".bin", ".onnx", ".json", ".tar", ".pkl", ".npz", ".h5", ".rec")


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("source", help="the checkpoint")
    parser.add_argument("target", help="what to write")
    parser.add_argument("--epoch", type=integer(0), help="epoch of an MXNet checkpoint given by its prefix (the last)")
    parser.add_argument("--network", help="the net, where its names and shapes leave a choice: gluon_resnet50_v1")
    parser.add_argument("--output", help="the operator whose output is scores, where a graph has several outputs")
    parser.add_argument("--layout", choices=writing.LAYOUTS, help="names in a PyTorch target")
    parser.add_argument("--images", nargs="+", default=[], help="photographs to prove the conversion on (two are here)")
    imagebounds.add_flag(parser)
    arguments = parser.parse_args()
    imagebounds.allow(arguments.max_pixels)

    check_target(arguments.source, arguments.target, arguments.layout)
    engines.choose("mxnet").load()
    plan = architecture.find(arguments.network) if arguments.network else None
    source = reading.read_known(arguments.source, arguments.epoch, reading.Given(plan=plan, output=arguments.output))
    for line in proof.describe(source):
        print(line)
    images = proof.make_images(source, arguments.images)
    print(f"Written: {write(arguments.target, source, arguments.layout)}")
    written = reading.read_known(arguments.target)
    agreement, whose = proof.compare_nets(source, written, images)
    for line in agreement.describe(whose):
        print(line)
    if not agreement.proven:
        print(f"error: {arguments.target} does not compute what {arguments.source} does", file=sys.stderr)
        return 1
    return 0


def check_target(source: str, target: str, layout: str | None) -> None:
    """Raise UserError where nothing can be written to ``target``, or not in ``layout``, or only over ``source``."""
    suffix = Path(target).suffix
    if suffix.lower() in OTHER_SUFFIXES or not target.rpartition("/")[2].strip("."):
        raise UserError(f"cannot write {target!r}: a target is PREFIX, FILE.params, FILE.pth or FILE.safetensors")
    if suffix == ".params" and re.search(r"-\d{4,}$", Path(target).stem):
        raise UserError(f"{target} is the name of an epoch of an MXNet checkpoint: give its prefix, or another name")
    if re.sub(r"-\d{4,}\.params$|-symbol\.json$", "", source) == target:
        raise UserError(f"the target {target} would take the place of the source")
    written = (Path(target), reading.note_path(Path(target)), checkpoint.graph_path(target))
    ownership.check_no_checkpoint(*written)
    if find_place(written[0 if suffix else -1]).stream:
        raise UserError(f"cannot write {target}: it is a pipe or a device, and what is written is read again")
    if layout and suffix not in writing.TORCH_SUFFIXES:
        raise UserError(f"--layout is for PyTorch targets ({', '.join(writing.TORCH_SUFFIXES)}), not for {target}")


def write(target: str, source: TrainedNet, layout: str | None) -> str:
    """Write ``source`` in the form that the name of ``target`` asks for; a sentence of what was written."""
    suffix = Path(target).suffix
    if suffix in writing.TORCH_SUFFIXES:
        return f"{target}, {writing.write_torch(Path(target), source, layout)}"
    if suffix == ".params":
        writing.write_gluon(Path(target), source)
        return f"{target}, for load_parameters of the Gluon net"
    with locked(checkpoint.lock_path(target), "give another target"):  # a run may begin there now, or have begun
        ownership.check_no_checkpoint(checkpoint.graph_path(target))
        return f"{target}-symbol.json and {writing.write_module(target, source)}"
