"""Graphs of plans, written without any framework: node for node those that MXNet traces from the nets in Gluon.

Which unit is what, and from where, is told in engines/mxnet/blocks.py, shortcuts.py and models.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs.layers import Layers, Map
from mxnet_resnet.plans import checks
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.graph import Graph

HE_FAN_OUT = json.dumps(["xavier", {"rnd_type": "gaussian", "factor_type": "out", "magnitude": 2}])


@dataclass(frozen=True)
class _Unit:
    """A residual unit of a plan.

    Attributes:
        planes: its channels before ``width`` and the expansion.
        stride: of the whole.
        shortcut: a value of architecture.SHORTCUT_NAMES.
        as_shortcut: it begins as its shortcut alone.
    """

    plan: Architecture
    planes: int
    stride: int
    shortcut: str
    as_shortcut: bool


def can_emit(plan: Architecture) -> bool:
    """Whether the units of a plan are known here; those of a block of one's own are not."""
    return plan.block_name in _UNITS


def emit(
    plan: Architecture,
    classes: int | None,
    *,
    image_shape: tuple[int, int, int] | None = None,
    bn_momentum: float = 0.9,
    zero_init_residual: bool = False,
    workspace: int = 512,
) -> Graph:
    """The graph of a plan from ``data`` (N, 3, H, W) to scores (N, classes), ``fc1``.

    Without classes it ends in the pooled features, ``flatten0``. ``image_shape`` (C, H, W) is noted on ``data`` for
    whoever loads the graph to predict; ``bn_momentum`` is the share of the running statistics that a step keeps;
    ``workspace`` the MB that one convolution may use on a GPU. Raises UserError for what no net can be, and for a plan
    with a block of one's own.
    """
    layers = _begin(plan, classes, bn_momentum, workspace)
    return layers.graph(_add_net(layers, plan, classes, image_shape, zero_init_residual))


def emit_training(
    plan: Architecture,
    classes: int | None,
    *,
    image_shape: tuple[int, int, int] | None = None,
    bn_momentum: float = 0.9,
    zero_init_residual: bool = False,
    workspace: int = 512,
    smoothing: float = 0.0,
) -> Graph:
    """As `emit`, with ``softmax`` (N, classes) behind it, which takes ``softmax_label`` (N,) or (N, classes).

    ``smoothing`` is the share of a label's weight that goes evenly to the other classes. This is the graph of a
    checkpoint, which every MXNet tool loads.
    """
    layers = _begin(plan, classes, bn_momentum, workspace)
    scores = _add_net(layers, plan, classes, image_shape, zero_init_residual)
    return layers.graph(layers.loss(scores, "softmax", smoothing))


def _begin(plan: Architecture, classes: int | None, bn_momentum: float, workspace: int) -> Layers:
    checks.check_plan(plan, classes, bn_momentum)
    if not can_emit(plan):
        raise UserError(f"the block {plan.block_name!r} is none of {', '.join(_UNITS)}, whose graphs are known here")
    return Layers(plan.epsilon, bn_momentum, HE_FAN_OUT if plan.he_init else None, workspace)


def _add_net(
    layers: Layers,
    plan: Architecture,
    classes: int | None,
    image_shape: tuple[int, int, int] | None,
    zero_init_residual: bool,
) -> Map:
    x = _add_stem(layers, plan, layers.images(3, image_shape))
    x = _add_stages(layers, plan, x, zero_init_residual)
    if plan.preact:
        x = layers.relu(layers.norm(x, "bn1"), "relu1")
    x = layers.flatten(layers.mean_pooling(x, "pool1"), "flatten0")
    if classes is None:
        return x
    uniform = json.dumps(["uniform", {"scale": x.channels**-0.5}])  # as PyTorch's linear layers
    return layers.dense(x, "fc1", classes, uniform if plan.he_init else None)


def _add_stem(layers: Layers, plan: Architecture, x: Map) -> Map:
    if plan.data_norm:
        x = layers.norm(x, "bn_data", scale=plan.data_norm == "full")
    kernel, stride = (3, 1) if plan.small_images else (7, 2)
    x = layers.convolution(x, "conv0", plan.dimensions[0][1], kernel, stride)
    if plan.stem_norm:
        x = layers.norm(x, "bn0")
        if plan.stem_relu:
            x = layers.relu(x, "relu0")
    return x if plan.small_images else layers.max_pooling(x, "pooling0")


def _add_stages(layers: Layers, plan: Architecture, x: Map, zero_init_residual: bool) -> Map:
    shortcut, add_unit = checks.find_shortcut_name(plan.shortcut), _UNITS[plan.block_name]
    for stage, (units, planes) in enumerate(plan.dimensions[1:], start=1):
        for number in range(1, units + 1):
            first = number == 1
            layers.prefix = f"stage{stage}_unit{number}_"
            kind = "full_projection" if first and plan.project_first else shortcut
            stride = 2 if first and stage > 1 else 1
            x = add_unit(layers, x, _Unit(plan, planes, stride, kind, zero_init_residual))
    layers.prefix = ""
    return x


def _add_basic(layers: Layers, x: Map, unit: _Unit) -> Map:
    channels = unit.planes * unit.plan.width
    path = layers.convolution(x, "conv1", channels, 3, unit.stride)
    path = layers.relu(layers.norm(path, "bn1"), "relu1")
    path = layers.dropout(path, "dropout", unit.plan.drop_rate)
    path = layers.convolution(path, "conv2", channels, 3)
    path = layers.norm(path, "bn2", zero=unit.as_shortcut)
    return layers.relu(layers.plus(path, _add_shortcut(layers, x, x, channels, unit)), "relu2")


def _add_bottleneck(layers: Layers, x: Map, unit: _Unit) -> Map:
    checks.refuse_dropout(unit.plan.drop_rate)
    middle, channels, bias = unit.planes * unit.plan.width, unit.planes * 4, unit.plan.bias
    first, second = _place_stride(unit)
    path = layers.convolution(x, "conv1", middle, 1, first, bias=bias)
    path = layers.relu(layers.norm(path, "bn1"), "relu1")
    path = layers.convolution(path, "conv2", middle, 3, second)
    path = layers.relu(layers.norm(path, "bn2"), "relu2")
    path = layers.convolution(path, "conv3", channels, 1, bias=bias)
    path = layers.norm(path, "bn3", zero=unit.as_shortcut)
    return layers.relu(layers.plus(path, _add_shortcut(layers, x, x, channels, unit)), "relu3")


def _add_preact_basic(layers: Layers, x: Map, unit: _Unit) -> Map:
    channels = unit.planes * unit.plan.width
    activated = layers.relu(layers.norm(x, "bn1"), "relu1")
    path = layers.convolution(activated, "conv1", channels, 3, unit.stride)
    path = layers.relu(layers.norm(path, "bn2"), "relu2")
    path = layers.dropout(path, "dropout", unit.plan.drop_rate)
    path = layers.convolution(path, "conv2", channels, 3, zero=unit.as_shortcut)
    return layers.plus(path, _add_shortcut(layers, x, activated, channels, unit, norm=False))


def _add_preact_bottleneck(layers: Layers, x: Map, unit: _Unit) -> Map:
    checks.refuse_dropout(unit.plan.drop_rate)
    middle, channels, bias = unit.planes * unit.plan.width, unit.planes * 4, unit.plan.bias
    first, second = _place_stride(unit)
    activated = layers.relu(layers.norm(x, "bn1"), "relu1")
    path = layers.convolution(activated, "conv1", middle, 1, first, bias=bias)
    path = layers.relu(layers.norm(path, "bn2"), "relu2")
    path = layers.convolution(path, "conv2", middle, 3, second)
    path = layers.relu(layers.norm(path, "bn3"), "relu3")
    path = layers.convolution(path, "conv3", channels, 1, bias=bias, zero=unit.as_shortcut)
    return layers.plus(path, _add_shortcut(layers, x, activated, channels, unit, norm=False))


_UNITS: dict[str, Callable[[Layers, Map, _Unit], Map]] = {
    "basic": _add_basic,
    "bottleneck": _add_bottleneck,
    "preact_basic": _add_preact_basic,
    "preact_bottleneck": _add_preact_bottleneck,
}


def _place_stride(unit: _Unit) -> tuple[int, int]:
    """The strides of the first two convolutions of a bottleneck."""
    return (unit.stride, 1) if unit.plan.stride_first else (1, unit.stride)


def _add_shortcut(layers: Layers, x: Map, activated: Map, channels: int, unit: _Unit, norm: bool = True) -> Map:
    """The path around the convolutions of a unit to so many channels; with ``norm`` a projection has a BatchNorm."""
    if unit.shortcut in ("identity", "centered_identity"):
        checks.check_identity(x.channels, channels)
        new = channels - x.channels
        before = new // 2 if unit.shortcut == "centered_identity" else 0
        return layers.pad(layers.shrink(x, unit.stride), before, new - before)
    if unit.shortcut != "full_projection" and unit.stride == 1 and x.channels == channels:
        return x
    source = x if unit.shortcut == "raw_projection" else activated
    path = layers.convolution(source, "sc", channels, 3 if unit.shortcut == "convolution" else 1, unit.stride)
    return layers.norm(path, "sc_bn") if norm else path
