"""What each named network is: pure data, no framework.

Sources: [1] He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385. [2] He et al., "Identity
Mappings in Deep Residual Networks", arXiv 1603.05027. [3] Zagoruyko and Komodakis, "Wide Residual Networks", arXiv
1605.07146. [4] The MXNet ResNet-v2 repository (tornadomeet/ResNet).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from mxnet_resnet.base import nearest
from mxnet_resnet.base.errors import UserError

STEMS = ("cifar", "imagenet")

# The options of [1], section 4.1, by their letters, and what published nets have besides.
SHORTCUT_NAMES = {
    "A": "identity",
    "B": "projection",
    "C": "full_projection",
    "identity": "identity",
    "centered_identity": "centered_identity",
    "projection": "projection",
    "raw_projection": "raw_projection",
    "full_projection": "full_projection",
    "convolution": "convolution",
}
DATA_NORMS = (None, "shift", "plain", "full")  # those of a graph are tried in this order
OPTIONS = (
    "shortcut",
    "width",
    "drop_rate",
    "small_images",
    "data_norm",
    "stem_norm",
    "stem_relu",
    "project_first",
)
SYMBOLIC_EPSILON = 2e-5  # of the BatchNorms in [4]


@dataclass(frozen=True)
class Architecture:
    """The plan of a ResNet.

    Attributes:
        dimensions: (1, channels) of the first convolution, then (units, planes) of each stage. A basic unit has
            ``planes * width`` output channels, a bottleneck ``4 * planes``.
        bottleneck: 1x1-3x3-1x1 units, else two 3x3 convolutions.
        preact: BatchNorm and ReLU before each convolution [2], else behind it [1].
        small_images: the net begins with a 3x3 convolution of stride 1, else with a 7x7 convolution and a 3x3 max
            pooling of stride 2 each.
        source: where the plan is published.
        width: factor on the channels of the 3x3 convolutions [3].
        drop_rate: of the dropout before the last convolution of a basic unit [3].
        shortcut: a value of SHORTCUT_NAMES.
        data_norm: a BatchNorm on the images: ``"full"``, ``"shift"`` (its scale is 1), ``"plain"`` (and its shift 0),
            or None.
        stem_norm: a BatchNorm behind the first convolution.
        stem_relu: a ReLU behind that BatchNorm.
        project_first: the first unit of each stage projects its shortcut even where the shapes match.
        stride_first: a bottleneck has its stride in the first convolution, else in the 3x3 one.
        bias: the 1x1 convolutions of bottlenecks have a bias.
        epsilon: of every BatchNorm.
        he_init: convolutions start as He et al. say (models.HE_FAN_OUT), else as whoever initializes says.
        block: the name under which an engine has the class of its units registered; None is for the one that
            ``bottleneck`` and ``preact`` tell. A variant keeps these two as what it is a variant of has them.
    """

    dimensions: tuple[tuple[int, int], ...]
    bottleneck: bool
    preact: bool
    small_images: bool
    source: str
    width: int = 1
    drop_rate: float = 0.0
    shortcut: str = "projection"
    data_norm: str | None = None
    stem_norm: bool = True
    stem_relu: bool = True
    project_first: bool = False
    stride_first: bool = False
    bias: bool = False
    epsilon: float = 1e-5
    he_init: bool = True
    block: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The fields that are arguments of the nets of every engine, by the same names."""
        return {name: getattr(self, name) for name in OPTIONS}

    @property
    def block_name(self) -> str:
        """The name of the class of its units: ``block``, else basic, bottleneck, preact_basic or preact_bottleneck."""
        return self.block or ("preact_" if self.preact else "") + ("bottleneck" if self.bottleneck else "basic")


# [1], table 1; 200 is [2], section 5; 269 is of [4].
IMAGENET_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
IMAGENET_PLANES = (64, 64, 128, 256, 512)
FIRST_IMAGENET_BOTTLENECK = 50

# [1], section 4.2, and for bottlenecks [2], section 4.1: units in each of three stages, and whether bottlenecks.
CIFAR_UNITS = {
    20: (3, False),
    32: (5, False),
    44: (7, False),
    56: (9, False),
    110: (18, False),
    164: (18, True),
    1001: (111, True),
    1202: (200, False),
}
CIFAR_PLANES = (16, 16, 32, 64)
FIRST_CIFAR_BOTTLENECK = 164  # of the depths in [4]

WIDE_CIFAR_UNITS = {16: 2, 28: 4, 40: 6}  # [3], section 2.3: units in each of three stages, depth 6n+4


def _dimensions(units: tuple[int, ...], planes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(zip((1, *units), planes))


def _imagenet(depth: int, preact: bool, source: str) -> Architecture:
    bottleneck = depth >= FIRST_IMAGENET_BOTTLENECK
    return Architecture(
        _dimensions(IMAGENET_UNITS[depth], IMAGENET_PLANES), bottleneck, preact, False, source, stem_norm=not preact
    )


def _cifar(units: int, bottleneck: bool, preact: bool, source: str) -> Architecture:
    return Architecture(_dimensions((units,) * 3, CIFAR_PLANES), bottleneck, preact, True, source, stem_norm=not preact)


def _library() -> dict[str, Architecture]:
    """The nets of the papers, as torch-resnet has them (v1.5: the stride of a bottleneck is in its 3x3 convolution)."""
    models = {}
    for preact in (False, True):
        prefix = "preact_" if preact else ""
        for depth in (18, 34, 50, 101, 152, 200):
            source = "[2] 5" if preact or depth == 200 else "[1] 4.1"
            models[f"{prefix}resnet{depth}"] = _imagenet(depth, preact, source)
        for depth, (units, bottleneck) in CIFAR_UNITS.items():
            source = "[2] 4.1" if preact or bottleneck else "[1] 4.2"
            models[f"{prefix}resnet{depth}"] = _cifar(units, bottleneck, preact, source)
        for depth in (50, 101):
            source = "[3] 3" if depth == 50 else "torchvision"
            models[f"{prefix}wide_resnet{depth}_2"] = replace(_imagenet(depth, preact, source), width=2)
        for depth, width in ((16, 8), (28, 10), (28, 12), (40, 4)):
            models[f"{prefix}wide_resnet{depth}_{width}"] = _wide(depth, width, preact)
    return models


def _wide(depth: int, width: int, preact: bool) -> Architecture:
    plan = _cifar(WIDE_CIFAR_UNITS[depth], False, preact, "[3] 2.3")
    return replace(plan, width=width, drop_rate=0.3)


def _gluon() -> dict[str, Architecture]:
    """The nets of Gluon's and GluonCV's model zoos."""
    models = {}
    for depth in (18, 34, 50, 101, 152):
        v1, v2 = (_imagenet(depth, preact, "Gluon model zoo") for preact in (False, True))
        models[f"gluon_resnet{depth}_v1"] = replace(v1, stride_first=True, bias=v1.bottleneck)
        models[f"gluon_resnet{depth}_v1b"] = replace(v1, source="GluonCV model zoo")
        models[f"gluon_resnet{depth}_v2"] = replace(v2, data_norm="plain", stem_norm=True)
    for depth in (20, 56, 110):
        v1, v2 = (_cifar(CIFAR_UNITS[depth][0], False, preact, "GluonCV model zoo") for preact in (False, True))
        models[f"gluoncv_cifar_resnet{depth}_v1"] = replace(v1, stem_relu=False)
        models[f"gluoncv_cifar_resnet{depth}_v2"] = replace(v2, data_norm="plain", shortcut="raw_projection")
    for depth, width in ((16, 10), (28, 10), (40, 8)):
        plan = replace(_wide(depth, width, True), source="GluonCV model zoo", drop_rate=0.0)
        models[f"gluoncv_cifar_wideresnet{depth}_{width}"] = replace(
            plan, data_norm="plain", stem_norm=True, stem_relu=False
        )
    return models


def symbolic_v2(depth: int, stem: str) -> Architecture:
    """The ResNet-v2 of [4], whose names and shapes published Symbols have. Raises UserError for a depth without a plan.

    ImageNet: 18 to 269. CIFAR: 6n+2 below 164 (basic units), 9n+2 from 164 on (bottlenecks).
    """
    if stem == "imagenet":
        if depth not in IMAGENET_UNITS:
            valid = ", ".join(map(str, IMAGENET_UNITS))
            raise UserError(
                f"no ImageNet ResNet has depth {depth}: the depths, for images above 64 pixels, are {valid}"
            )
        plan = _imagenet(depth, True, "[4]")
    else:
        bottleneck = depth >= FIRST_CIFAR_BOTTLENECK
        units, rest = divmod(depth - 2, 9 if bottleneck else 6)
        if units < 1 or rest:
            of_imagenet = f"preact_resnet{depth}"
            instead = f"; --network {of_imagenet} is ImageNet's with a 3x3 first convolution"
            raise UserError(
                f"no CIFAR ResNet has depth {depth}: the depths, for images up to 64 pixels, are 6n+2 below 164 (8, "
                "14, 20, 26, 32, 38, 44, 50, ..., 110, ..., 158) and 9n+2 from 164 on (164, 173, ..., 1001, ...)"
                + (instead if of_imagenet in MODELS else "")
            )
        plan = _cifar(units, bottleneck, True, "[4]")
    return as_symbolic_v2(plan)


def as_symbolic_v2(plan: Architecture) -> Architecture:
    """A pre-activation plan with what the nets of [4] add to it."""
    stem_norm = not plan.small_images
    return replace(
        plan, data_norm="shift", stem_norm=stem_norm, project_first=True, epsilon=SYMBOLIC_EPSILON, he_init=False
    )


SYMBOLIC_DEPTHS = {"imagenet": tuple(IMAGENET_UNITS), "cifar": (20, 32, 44, 56, 110, 164, 1001)}

MODELS = {  # every named net: a new one is an entry here, and the class of its units where that is new too
    **_library(),
    **_gluon(),
    **{f"resnet{d}_v2": symbolic_v2(d, stem) for stem, depths in SYMBOLIC_DEPTHS.items() for d in depths},
}

# The nets that are classes too, by the names of these. Each has a pre-activation twin; a wide one for small images has
# width 1 unless told.
_POST_ACTIVATION_CLASSES = {
    **{f"ResNet{d}": f"resnet{d}" for d in (18, 34, 50, 101, 152, 200, 20, 32, 44, 56, 110, 164, 1001, 1202)},
    **{f"WideResNet{d}": f"wide_resnet{d}_1" for d in (16, 28, 40)},
    **{f"WideResNet{d}_2": f"wide_resnet{d}_2" for d in (50, 101)},
}
CLASSES = {
    **_POST_ACTIVATION_CLASSES,
    **{f"PreAct{name}": f"preact_{plan}" for name, plan in _POST_ACTIVATION_CLASSES.items()},
}

_WIDE = re.compile(r"(preact_)?wide_resnet(\d+)_(\d+)")


def find(name: str) -> Architecture:
    """The plan of a named network; the name of its class will do too: ``PreActResNet50``.

    Any width of a wide net is a name: ``wide_resnet28_2``. Raises UserError, which tells the names that are near.
    """
    given, name = name, re.sub(r"(PreAct|Wide)(?=[WR])", r"\1_", name).lower()
    if name in MODELS:
        return MODELS[name]
    match = _WIDE.fullmatch(name)
    if match and int(match[2]) in WIDE_CIFAR_UNITS and int(match[3]) >= 1:
        return _wide(int(match[2]), int(match[3]), bool(match[1]))
    near = nearest.describe_nearest(_find_nearest(name)) or " (train_resnet.py --list-networks has those that are)"
    raise UserError(f"there is no network {given!r}{near}")


def _find_nearest(name: str) -> list[str]:
    """Names of the same family with depths up to twice or half as large, else those that are spelt nearly so."""
    family, sizes = re.sub(r"\d+", "#", name), re.findall(r"\d+", name)
    depths = {
        known: int(re.findall(r"\d+", known)[0]) for known in MODELS if sizes and re.sub(r"\d+", "#", known) == family
    }
    wanted = int(sizes[0]) if sizes else 0
    near = [known for known, depth in depths.items() if wanted <= 2 * depth and depth <= 2 * wanted]
    return sorted(near, key=lambda known: abs(depths[known] - wanted))[:4] or nearest.find_nearest(name, MODELS)
