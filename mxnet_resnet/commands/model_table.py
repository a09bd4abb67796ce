"""Write the table of the named networks: `python tools/model_table.py --out docs/models.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from mxnet_resnet import engines
from mxnet_resnet.base.arguments import Parser, output
from mxnet_resnet.base.files import replacing
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.ownership import check_no_checkpoint

if TYPE_CHECKING:
    from mxnet_resnet.engines.mxnet.models import PreActResNet, ResNet

HEAD = """\
# Networks

Made by `python tools/model_table.py --out docs/models.md`.

The names are those that `mxnet_resnet.build` takes. Nets for images of 224x224 have 1,000 classes here, nets for 32x32
have 10. Parameters are the trained values; layers are convolutions and dense layers, projections included;
multiply-adds are those of convolutions and dense layers for one image.
"""
COLUMNS = ("name", "depth", "units a stage", "image", "parameters", "layers", "multiply-adds", "source")
ALIGNMENTS = ("---", "---:", "---", "---", "---:", "---:", "---:", "---")
GROUPS = (  # in the order of the page
    "Post-activation, ImageNet",
    "Post-activation, CIFAR",
    "Post-activation, wide",
    "Pre-activation, ImageNet",
    "Pre-activation, CIFAR",
    "Pre-activation, wide",
    "ResNet-v2 of the MXNet repository",
    "Model zoos of Gluon and GluonCV",
)
ZOOS = (
    "Gluon model zoo: `mxnet.gluon.model_zoo.vision` of Apache MXNet 1.9.1.",
    "GluonCV model zoo: `gluoncv.model_zoo`.",
)


def group(plan: Architecture) -> str:
    """The one of GROUPS that a net belongs to."""
    if "model zoo" in plan.source:
        return "Model zoos of Gluon and GluonCV"
    if plan.source == "[4]":
        return "ResNet-v2 of the MXNet repository"
    kind = "wide" if plan.width > 1 else "CIFAR" if plan.small_images else "ImageNet"
    return f"{'Pre' if plan.preact else 'Post'}-activation, {kind}"


def position(name: str) -> tuple[int, bool, str, list[int]]:
    """Where a net stands: by group, images (the large ones first), family, depth and width."""
    plan = architecture.find(name)
    family = re.sub(r"resnet\d+(_\d+)?", "", name)
    sizes = [int(size) for size in re.findall(r"\d+", name)]
    return GROUPS.index(group(plan)), plan.small_images, family, sizes


def standard_input(plan: Architecture) -> tuple[int, int]:
    """The side of the images and the number of classes that a net is counted for."""
    return (32, 10) if plan.small_images else (224, 1000)


def multiply_adds(net: ResNet | PreActResNet, side: int) -> int:
    """Those of the convolutions and dense layers for one image of ``side`` x ``side`` pixels."""
    from mxnet_resnet.engines.mxnet import symbols

    internals = symbols.softmax(net).get_internals()
    _, shapes, _ = internals.infer_shape(data=(1, 3, side, side))
    shape_of = dict(zip(internals.list_outputs(), shapes))
    layers = (name[: -len("_weight")] for name in shape_of if name.endswith("_weight"))
    return sum(prod(shape_of[f"{layer}_output"]) * prod(shape_of[f"{layer}_weight"][1:]) for layer in layers)


def row(name: str) -> str:
    """The line of the table about one net."""
    from mxnet_resnet.engines.mxnet import models

    plan = architecture.find(name)
    side, classes = standard_input(plan)
    net = models.build(name, classes=classes)
    cells = (
        f"`{name}`",
        re.findall(r"resnet(\d+)", name)[0],
        ", ".join(str(units) for units, _ in plan.dimensions[1:]),
        f"{side}x{side}",
        f"{models.count_parameters(net):,}",
        f"{models.count_layers(net):,}",
        f"{multiply_adds(net, side) / 1e9:#.3g} G",
        plan.source,
    )
    return line(cells)


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def legend() -> str:
    """What the sources stand for: the sentence about them in architecture.py, and the zoos."""
    papers = " ".join(architecture.__doc__.partition("Sources: ")[2].split())
    return "\n".join(f"- {source}" for source in (*re.split(r" (?=\[\d\])", papers), *ZOOS))


def page() -> str:
    """The whole document."""
    parts = [HEAD]
    names = sorted(architecture.MODELS, key=position)
    for title, members in groupby(names, key=lambda name: group(architecture.find(name))):
        parts.append("\n".join((f"## {title}\n", line(COLUMNS), line(ALIGNMENTS), *map(row, members), "")))
    return "\n".join((*parts, f"## Sources\n\n{legend()}\n"))


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--out", type=output, default=Path("docs/models.md"), help="the page")
    arguments = parser.parse_args()

    check_no_checkpoint(arguments.out)
    engines.choose("mxnet").load()
    with replacing(arguments.out) as (temporary,):
        temporary.write_text(page(), encoding="utf-8")
    print(f"{len(architecture.MODELS)} networks: {arguments.out}")
