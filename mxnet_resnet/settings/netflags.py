"""The flags that say which trained net a command uses, and on what; MXNet is imported when the net is loaded."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mxnet_resnet.base.arguments import Parser, channels, deviations, epoch, integer, shape
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import IMAGENET_CLASSES, IMAGENET_SYNSET
from mxnet_resnet.data.transform import CROPS

if TYPE_CHECKING:
    from mxnet_resnet.engines.mxnet.predictor import Classifier
    from mxnet_resnet.use.nets import Net


def add(parser: Parser) -> None:
    """Add the flags of the net."""
    net = parser.add_argument_group("the net")
    net.add_argument("--prefix", default="resnet-50", help="the checkpoint: PREFIX-symbol.json, PREFIX-0000.params")
    net.add_argument(
        "--epoch", type=epoch, default=0, help="the number in the name of the .params file, or best or latest"
    )
    net.add_argument("--params", help="instead, a file of parameters alone: of Gluon, or of PyTorch")
    net.add_argument("--network", help="the net of --params, where the file leaves a choice: gluon_resnet50_v1")
    net.add_argument("--image-shape", type=shape, help="input of a net that does not tell its own: 3,224,224")
    net.add_argument(
        "--mean", type=channels, help="of its images, in 0..1, where it takes normalised ones: 0.5,0.5,0.5"
    )
    net.add_argument("--std", type=deviations, help="the deviation that goes with --mean")
    net.add_argument("--synset", help="class names, a line each (predict/synset.txt for 1000 classes, else numbers)")


def add_gpu(parser: Parser) -> None:
    """Add the flag of the device."""
    parser.add_argument("--gpu", type=integer(0), help="the GPU to compute on (0 if it can serve, else the CPU)")


def add_crops(parser: Parser, batch_size: int) -> None:
    """Add the flags of what is computed of each image, and how much at a time."""
    parser.add_argument("--batch-size", type=integer(), default=batch_size, help="crops to compute at a time")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="what to compute in; bfloat16 is faster, on CPUs with AVX512-BF16",
    )
    parser.add_argument(
        "--crop",
        choices=CROPS,
        default=CROPS[0],
        help="as in validation; the mean over corners, centre and their mirror images; or the whole image squashed",
    )


def load(arguments: argparse.Namespace) -> Net:
    """The net that the flags name; what is assumed of its images is told on standard error. Raises UserError."""
    net = load_silently(arguments)
    for note in net.notes:
        print(note, file=sys.stderr)
    return net


def load_silently(arguments: argparse.Namespace) -> Net:
    """As `load`, for what does not depend on the images."""
    from mxnet_resnet.use import nets

    given = (arguments.image_shape, (arguments.mean, arguments.std))
    if arguments.params:
        return nets.load_file(arguments.params, arguments.network, *given)
    if arguments.network:
        raise UserError("--network goes with --params FILE; a checkpoint at --prefix has its graph beside it")
    return nets.load(arguments.prefix, arguments.epoch, *given)


def classifier(net: Net, arguments: argparse.Namespace, batch_size: int, dtype: str = "float32") -> Classifier:
    """``net`` on the device that the flags name. Raises UserError for one that cannot serve, or not in that dtype."""
    from mxnet_resnet.engines.mxnet import devices, precision
    from mxnet_resnet.engines.mxnet.predictor import Classifier

    (context, *_), _ = devices.choose(None if arguments.gpu is None else [arguments.gpu])
    precision.check(dtype, [context])
    return Classifier(net, context, batch_size, dtype)


def names(net: Net, arguments: argparse.Namespace) -> list[str]:
    """The names of the classes. Raises UserError where there are not as many as classes."""
    from mxnet_resnet.data.synset import read_synset

    synset = arguments.synset or (IMAGENET_SYNSET if net.classes == IMAGENET_CLASSES else None)
    return read_synset(synset, net.classes) if synset else [f"class {number}" for number in range(net.classes)]
