"""The flags that say which trained net a command uses, and on what."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from mxnet_resnet.base.arguments import Parser, channels, deviations, epoch, integer, shape
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.transform import CROPS, ImageShape
from mxnet_resnet.settings.flags import add_engine


@dataclass(frozen=True)
class NetChoice:
    """Which trained net a command uses, and what is said of it.

    Attributes:
        prefix, epoch: of a Module checkpoint; the epoch may be ``"best"`` or ``"latest"``, as training noted; None: the
            latest that is there.
        params: a file of parameters alone, in place of these.
        network: the name of its net.
        image_shape: (C, H, W) of its input.
        mean, std: of its images, RGB in 0..1.
        synset: a file of class names.
        output: the operator of its graph that gives its scores.
    """

    prefix: str
    epoch: int | str | None = None
    params: str | None = None
    network: str | None = None
    image_shape: ImageShape | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    synset: str | None = None
    output: str | None = None


def read(arguments: argparse.Namespace) -> NetChoice:
    """What the flags of `add` say; the bound on images holds from now on."""
    imagebounds.allow(arguments.max_pixels)
    return NetChoice(**{field.name: getattr(arguments, field.name) for field in fields(NetChoice)})


def add(parser: Parser) -> None:
    """Add the flags of the net."""
    net = parser.add_argument_group("the net")
    net.add_argument("--prefix", default="resnet-50", help="the checkpoint: PREFIX-symbol.json, PREFIX-0000.params")
    net.add_argument(
        "--epoch", type=epoch, help="the number in the name of the .params file, best or latest (the latest there)"
    )
    net.add_argument("--params", help="instead, a file of parameters alone: of Gluon, or of PyTorch")
    net.add_argument("--network", help="the net of --params, where the file leaves a choice: gluon_resnet50_v1")
    net.add_argument("--image-shape", type=shape, help="input of a net that does not tell its own: 3,224,224")
    net.add_argument(
        "--mean", type=channels, help="of its images, in 0..1, where it takes normalised ones: 0.5,0.5,0.5"
    )
    net.add_argument("--std", type=deviations, help="the deviation that goes with --mean")
    net.add_argument("--output", help="the operator whose output is scores of classes, where the graph does not tell")
    imagebounds.add_flag(parser)
    net.add_argument("--synset", help="class names, a line each (predict/synset.txt for 1000 classes, else numbers)")


def add_gpu(parser: Parser) -> None:
    """Add the flags of who computes, and on what."""
    add_engine(parser)
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
