"""ResNet-v2 as a Symbol, with the calls and the argument names of the published MXNet checkpoints.

The network is the Gluon definition in mxnet_resnet, traced:

    >>> from symbol_resnet import resnet
    >>> symbol = resnet([3, 4, 6, 3], 4, [64, 256, 512, 1024, 2048], 1000, "imagenet")
    >>> symbol.list_outputs()
    ['softmax_output']
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mxnet_resnet.data.datasets import DATA_TYPES
from mxnet_resnet.engines.mxnet.blocks import PreActBlock, PreActBottleneck
from mxnet_resnet.engines.mxnet.layers import BatchNorm
from mxnet_resnet.engines.mxnet.memory import memonger as planner
from mxnet_resnet.engines.mxnet.models import from_architecture
from mxnet_resnet.engines.mxnet.shortcuts import FullProjectionShortcut, ProjectionShortcut
from mxnet_resnet.engines.mxnet.symbols import softmax, trace
from mxnet_resnet.plans.architecture import STEMS, SYMBOLIC_EPSILON, Architecture, as_symbolic_v2

if TYPE_CHECKING:
    import mxnet as mx

NOMINAL = {"cifar": (128, 32), "imagenet": (32, 224)}  # images and their side, for which memory is planned
UNIT_CLASSES = {True: PreActBottleneck, False: PreActBlock}  # by ``bottle_neck``


def residual_unit(
    data: mx.sym.Symbol,
    num_filter: int,
    stride: int | tuple[int, int],
    dim_match: bool,
    name: str,
    bottle_neck: bool = True,
    bn_mom: float = 0.9,
    workspace: int = 512,
    memonger: bool = False,
) -> mx.sym.Symbol:
    """A pre-activation residual unit on ``data`` (N, C, H, W), whose parameters are named ``{name}_conv1_weight`` etc.

    Args:
        num_filter: output channels.
        stride: of the unit, one number or the same one twice.
        dim_match: input and output have the same shape, so that the shortcut is the input itself.
        bn_mom: momentum of the running statistics.
        workspace: MB that one convolution may use on a GPU.
        memonger: compute the inside of the unit again in the backward pass instead of keeping it.
    """
    height, width = (stride, stride) if isinstance(stride, int) else stride
    if height != width:
        raise ValueError(f"a residual unit has one stride for height and width, not {stride}")
    block = UNIT_CLASSES[bottle_neck]
    unit = block(
        num_filter if dim_match else 0,
        num_filter // block.expansion,
        shortcut=ProjectionShortcut if dim_match else FullProjectionShortcut,
        stride=height,
        norm=partial(BatchNorm, momentum=bn_mom, epsilon=SYMBOLIC_EPSILON),
        prefix=f"{name}_",
    )
    symbol = trace(unit, data, workspace)
    return planner.mirror_unit(symbol, behind=data) if memonger else symbol


def resnet(
    units: Sequence[int],
    num_stage: int,
    filter_list: Sequence[int],
    num_class: int,
    data_type: str,
    bottle_neck: bool = True,
    bn_mom: float = 0.9,
    workspace: int = 512,
    memonger: bool = False,
) -> mx.sym.Symbol:
    """ResNet-v2 from ``data`` (N, 3, H, W), RGB, 0..255, to ``softmax`` (N, num_class).

    Args:
        units: residual units in each of the ``num_stage`` stages.
        filter_list: output channels of the first convolution, then of each stage.
        data_type: a data type of train_resnet.py, or ``"cifar"``: it decides how the net begins.
        bn_mom, workspace: as in residual_unit.
        memonger: compute again in the backward pass what is planned for 32 images of 224x224, or 128 of 32x32.
    """
    if not len(units) == num_stage == len(filter_list) - 1:
        raise ValueError(
            f"{num_stage} stages need {num_stage} units and {num_stage + 1} filters, "
            f"and there are {len(units)} and {len(filter_list)}"
        )
    stems = {**dict(zip(STEMS, STEMS)), **{name: data.stem for name, data in DATA_TYPES.items()}}
    if data_type not in stems:
        raise ValueError(f"unknown data type {data_type!r}: it is one of {', '.join(sorted(stems))}")
    planes = [filter_list[0], *(filters // UNIT_CLASSES[bottle_neck].expansion for filters in filter_list[1:])]
    small = stems[data_type] == "cifar"
    plan = Architecture(tuple(zip((1, *units), planes)), bottle_neck, True, small, "symbol_resnet.py")
    symbol = softmax(from_architecture(as_symbolic_v2(plan), num_class, bn_mom), workspace)
    if not memonger:
        return symbol
    batch, side = NOMINAL[stems[data_type]]
    shapes = {"data": (batch, 3, side, side), "softmax_label": (batch,)}
    return planner.plan(symbol, shapes).apply(symbol)
