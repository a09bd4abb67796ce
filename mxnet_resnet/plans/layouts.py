"""What the parameters of a ResNet are called elsewhere, and the plan of a net from the names and shapes it has.

A layer of ours is ``conv0``, ``stage1_unit2_bn3``, ``stage2_unit1_sc`` (and so on, as in blocks.py and models.py), its
parameters ``conv0_weight``, ``..._gamma``, ``..._moving_mean``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import SYMBOLIC_EPSILON, Architecture

Shape = tuple[int, ...]

TORCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
TORCH_COUNTER = "num_batches_tracked"
TORCH_EPSILON = 1e-5  # of the BatchNorms of PyTorch's nets
GLUON_NORM = {"gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
OUR_NORM = {name: name for name in ("gamma", "beta", "moving_mean", "moving_var")}
WEIGHTS = {"weight": "weight", "bias": "bias"}
NO_FAMILY = "the checkpoint fits no family of ResNets known here"
PARTS = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "sc", "sc_bn")


@dataclass(frozen=True)
class Layout:
    """How a library names the layers of a ResNet.

    Attributes:
        name: of the library and the kind of net.
        top: its names of the layers outside of the units; ``{after}`` is the number of the last stage plus one.
        unit: its name of a unit, of ``{stage}`` and ``{unit}``, which count from ``first_stage`` and from 0.
        parts: its names of the layers of a unit where they are not ours.
        norm: its names of the parameters of a BatchNorm, to ours.
        plan: fields of Architecture that such nets have and shapes do not tell.
        shortcuts: the kind of shortcut that such nets have, by the kind that shapes tell.
        stem: channels of the first convolution, where they tell its nets from another library's.
    """

    name: str
    top: Mapping[str, str]
    unit: str
    first_stage: int
    parts: Mapping[str, str]
    norm: Mapping[str, str]
    plan: Mapping[str, object] = field(default_factory=dict)
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    stem: int | None = None

    def unit_layer(self, stage: int, unit: int, part: str) -> str:
        """Its name of a layer of a unit; ``stage`` and ``unit`` count from 1."""
        prefix = self.unit.format(stage=stage - 1 + self.first_stage, unit=unit - 1)
        return f"{prefix}.{self.parts.get(part, part)}"

    def top_layer(self, layer: str, stages: int) -> str | None:
        """Its name of a layer outside of the units, or None where its nets have no such layer."""
        return self.top[layer].format(after=self.first_stage + stages) if layer in self.top else None

    def layers(self, names: Collection[str]) -> dict[str, str]:
        """Those of ``names``, the names of its parameters, that are layers of this layout: ours to its."""
        theirs = {name.rpartition(".")[0] for name in names}
        found = {}
        stages = 0
        for stage in count(1):
            for unit in count(1):
                layers = {f"stage{stage}_unit{unit}_{part}": self.unit_layer(stage, unit, part) for part in PARTS}
                layers = {ours: name for ours, name in layers.items() if name in theirs}
                found.update(layers)
                if not layers:
                    break
            if unit == 1:
                break
            stages = stage
        for layer in self.top:
            name = self.top_layer(layer, stages)
            if name in theirs:
                found[layer] = name
        return found

    def our_layer(self, theirs: str) -> str:
        """Our name of a layer of it; one that ours have not is called as its place is: ``stage1_unit1_se_conv``."""
        for layer, name in self.top.items():
            if name == theirs:
                return layer
        prefix = self.unit.replace(".", r"\.").format(stage=r"(\d+)", unit=r"(\d+)")
        if not (match := re.fullmatch(rf"{prefix}\.(.+)", theirs)):
            return theirs.replace(".", "_")
        stage, unit, place = int(match[1]) - self.first_stage + 1, int(match[2]) + 1, match[3]
        part = next((ours for ours, name in self.parts.items() if name == place), place.replace(".", "_"))
        return f"stage{stage}_unit{unit}_{part}"

    def parameters(self, names: Collection[str]) -> dict[str, str]:
        """Its name of each parameter, by ours."""
        found = {}
        for ours, theirs in self.layers(names).items():
            kinds = self.norm if is_norm(ours) else WEIGHTS
            for kind, our_kind in kinds.items():
                if f"{theirs}.{kind}" in names:
                    found[f"{ours}_{our_kind}"] = f"{theirs}.{kind}"
        return found


def is_norm(layer: str) -> bool:
    """Whether a layer of ours is a BatchNorm."""
    return layer.rpartition("_")[2].startswith("bn") or layer == "bn_data"


_DOWN = {"sc": "downsample.0", "sc_bn": "downsample.1"}
_BODY = {f"{kind}{n}": f"body.{3 * n - 3 + shift}" for n in (1, 2, 3) for kind, shift in (("conv", 0), ("bn", 1))}
_TORCH = {"epsilon": TORCH_EPSILON, "stem_relu": True}
_POST = {**_TORCH, "preact": False}
_PRE = {**_TORCH, "preact": True}

TORCH_RESNET = Layout(
    "torch-resnet ResNet",
    {"conv0": "init_layer.0", "bn0": "init_layer.1", "fc1": "head"},
    "layers.{stage}.{unit}",
    0,
    {"sc": "shortcut.0.conv", "sc_bn": "shortcut.1"},
    TORCH_NORM,
    _POST,
)
TORCH_RESNET_PREACT = Layout(
    "torch-resnet PreActResNet",
    {"conv0": "init_layer.0", "bn1": "norm", "fc1": "head"},
    "layers.{stage}.{unit}",
    0,
    {"sc": "shortcut.conv"},
    TORCH_NORM,
    _PRE,
)
TORCH_RESNET_PREACT_SMALL = replace(
    TORCH_RESNET_PREACT,
    name="torch-resnet PreActResNet for small images",
    top={"conv0": "init_layer", "bn1": "norm", "fc1": "head"},
)
TORCHVISION = Layout(
    "torchvision or timm ResNet",
    {"conv0": "conv1", "bn0": "bn1", "fc1": "fc"},
    "layer{stage}.{unit}",
    1,
    _DOWN,
    TORCH_NORM,
    {**_POST, "stride_first": False},
    {"identity": "centered_identity"},  # torchvision's own have none
)
OPTION_A = replace(
    TORCHVISION,
    name="pytorch_resnet_cifar10",
    top={"conv0": "conv1", "bn0": "bn1", "fc1": "linear"},
)


def _own_torch(base: Layout) -> Layout:
    """A layout of torch-resnet with what our PyTorch nets have besides."""
    top = {"bn0": "init_layer.1", **base.top, "bn_data": "data_norm"}
    name = base.name.replace("torch-resnet", "mxnet_resnet PyTorch")
    return replace(base, name=name, top=top, plan={"preact": base.plan["preact"]})


OUR_TORCH_LAYOUTS = tuple(map(_own_torch, (TORCH_RESNET, TORCH_RESNET_PREACT, TORCH_RESNET_PREACT_SMALL)))
TORCH_LAYOUTS = (
    TORCH_RESNET,
    TORCH_RESNET_PREACT,
    TORCH_RESNET_PREACT_SMALL,
    TORCHVISION,
    OPTION_A,
    *OUR_TORCH_LAYOUTS,
)


def find_own_torch(preact: bool, bare_stem: bool) -> Layout:
    """The layout of our PyTorch nets; ``bare_stem`` tells that they begin with a convolution and no more."""
    post, pre, pre_bare = OUR_TORCH_LAYOUTS
    return (pre_bare if bare_stem else pre) if preact else post


def _gluon(
    name: str,
    stem: tuple[str, ...],
    first_stage: int,
    parts: Mapping[str, str],
    channels: int | None = None,
    shortcuts: Mapping[str, str] | None = None,
    **plan: Any,
) -> Layout:
    """A net of Gluon's zoos: numbered features, of which ``stem`` are the first with parameters."""
    top = {layer: f"features.{number}" for number, layer in enumerate(stem)}
    top["fc1"] = "output"
    if plan["preact"]:
        top["bn1"] = "features.{after}"
    return Layout(name, top, "features.{stage}.{unit}", first_stage, parts, GLUON_NORM, plan, shortcuts or {}, channels)


_V2 = {"sc": "downsample"}
GLUON_LAYOUTS = (
    _gluon("Gluon ResNet v1", ("conv0", "bn0"), 4, {**_BODY, **_DOWN}, preact=False),
    _gluon("GluonCV CIFAR ResNet v1", ("conv0", "bn0"), 2, {**_BODY, **_DOWN}, preact=False, stem_relu=False),
    _gluon("Gluon ResNet v2", ("bn_data", "conv0", "bn0"), 5, _V2, preact=True, data_norm="plain"),
    _gluon(
        "GluonCV CIFAR ResNet v2",
        ("bn_data", "conv0"),
        2,
        _V2,
        channels=16,
        shortcuts={"projection": "raw_projection"},
        preact=True,
        data_norm="plain",
    ),
    _gluon("Gluon ResNet v2 for thumbnails", ("bn_data", "conv0"), 2, _V2, preact=True, data_norm="plain"),
    _gluon(
        "GluonCV CIFAR wide ResNet",
        ("bn_data", "conv0", "bn0"),
        3,
        _V2,
        preact=True,
        data_norm="plain",
        stem_relu=False,
    ),
    replace(TORCHVISION, name="GluonCV ResNet v1b", norm=GLUON_NORM),
)


def _ours() -> Iterator[Layout]:
    """The Gluon names of our own nets, which number the layers of the stem as far as there are any."""
    for preact, data_norm, stem_norm, relu, pool in product((False, True), repeat=5):
        stem = ["bn_data"] * data_norm + ["conv0"] + ["bn0"] * stem_norm
        top = {layer: f"features.{number}" for number, layer in enumerate(stem)}
        top["fc1"] = "head"
        if preact:
            top["bn1"] = "features.{after}"
        if relu and not stem_norm:
            continue
        plan = {"preact": preact, "stem_relu": relu or not stem_norm, "small_images": not pool}
        first_stage = len(stem) + relu + pool
        yield Layout(
            "mxnet_resnet Gluon", top, "features.{stage}.{unit}", first_stage, {"sc": "shortcut.sc"}, OUR_NORM, plan
        )


OUR_GLUON_LAYOUTS = tuple(_ours())


def recognise(shapes: Mapping[str, Shape], layouts: Collection[Layout]) -> tuple[Layout, dict[str, str]]:
    """The layout that all parameters of these names and shapes belong to, and its name of each by ours.

    Raises UserError, which tells the first names that fit none.
    """
    wanted = {name for name in shapes if not name.endswith(TORCH_COUNTER)}
    best: set[str] = wanted
    for layout in layouts:
        parameters = layout.parameters(wanted)
        rest = wanted - set(parameters.values())
        if not rest and "conv0_weight" in parameters:
            stem = shapes[parameters["conv0_weight"]]
            size_fits = layout.plan.get("small_images", _is_small(stem)) == _is_small(stem)
            if size_fits and layout.stem in (None, *stem[:1]):
                return layout, parameters
        if len(rest) < len(best):
            best = rest
    first = ", ".join(sorted(best)[:3]) or "no convolution"
    raise UserError(f"{NO_FAMILY}; names that fail: {first}")


def infer(shapes: Mapping[str, Shape], layout: Layout | None = None) -> tuple[Architecture, int | None]:
    """The plan, and the number of classes or None, of a net by the shapes of its parameters, under our names.

    ``layout`` gives what shapes do not tell. Raises UserError for shapes of no ResNet.
    """
    stages = _stages(shapes)
    _check_convolutions(shapes, stages)
    bottleneck = "stage1_unit1_conv3_weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    expansion = 4 if bottleneck else 1
    outputs = [shapes[f"stage{stage}_unit1_{last}_weight"][0] for stage in range(1, len(stages) + 1)]
    planes = [channels // expansion for channels in outputs]
    width = shapes["stage1_unit1_conv1_weight"][0] // planes[0] if bottleneck else 1
    stem = shapes["conv0_weight"]
    biased = "stage1_unit1_conv1_bias" in shapes
    found: dict[str, Any] = {
        "dimensions": tuple(zip((1, *stages), (stem[0], *planes))),
        "bottleneck": bottleneck,
        "preact": "bn1_gamma" in shapes,
        "small_images": _is_small(stem),
        "source": "inferred",
        "width": width,
        "data_norm": "shift" if "bn_data_gamma" in shapes else None,
        "stem_norm": "bn0_gamma" in shapes,
        "bias": biased,
        "stride_first": biased,  # only Gluon's v1 has either
        **_shortcut(shapes, stages, outputs, stem[0]),
    }
    if found["project_first"] and found["data_norm"]:
        found.update(epsilon=SYMBOLIC_EPSILON, he_init=False)
    if layout:
        found.update(layout.plan, shortcut=layout.shortcuts.get(found["shortcut"], found["shortcut"]))
    classes = None
    if "fc1_weight" in shapes:
        if len(shapes["fc1_weight"]) != 2:
            raise UserError(f"{NO_FAMILY}: its classifier has shape {shapes['fc1_weight']}")
        classes = shapes["fc1_weight"][0]
    return Architecture(**found), classes


def _is_small(stem: Shape) -> bool:
    """Whether a first convolution of this shape begins a net for small images."""
    return stem[2:] == (3, 3)


def _check_convolutions(shapes: Mapping[str, Shape], stages: list[int]) -> None:
    """Raise UserError unless the convolutions are there that tell the plan."""
    needed = ["conv0_weight"]
    for stage, units in enumerate(stages or [1], start=1):
        needed += [f"stage{stage}_unit{unit}_conv{n}_weight" for unit in range(1, units + 1) for n in (1, 2)]
    if "stage1_unit1_conv3_weight" in shapes:
        needed += [f"stage{stage}_unit1_conv3_weight" for stage in range(1, len(stages) + 1)]
    for name in needed:
        if len(shapes.get(name, ())) != 4:
            raise UserError(f"{NO_FAMILY}: {name} is missing or no convolution")


def _stages(shapes: Mapping[str, Shape]) -> list[int]:
    """The number of units in each stage."""
    stages: list[int] = []
    while True:
        stage = len(stages) + 1
        units = next(unit for unit in count(1) if f"stage{stage}_unit{unit}_conv1_weight" not in shapes) - 1
        if not units:
            return stages
        stages.append(units)


def _shortcut(shapes: Mapping[str, Shape], stages: list[int], outputs: list[int], stem: int) -> dict[str, object]:
    """The kind of shortcut, by the units that have a convolution on it."""
    units = [(stage, unit) for stage, number in enumerate(stages, start=1) for unit in range(1, number + 1)]
    projecting = {key: shapes[name] for key in units if (name := f"stage{key[0]}_unit{key[1]}_sc_weight") in shapes}
    changes = {(1, 1)} if stem != outputs[0] else set()
    changes |= {(stage, 1) for stage in range(2, len(stages) + 1)}
    first = {(stage, 1) for stage in range(1, len(stages) + 1)}
    if not projecting:
        return {"shortcut": "identity", "project_first": False}
    if set(projecting) == set(units) != first:
        return {"shortcut": "full_projection", "project_first": False}
    kind = "convolution" if next(iter(projecting.values()))[2] == 3 else "projection"
    return {"shortcut": kind, "project_first": set(projecting) == first != changes}
