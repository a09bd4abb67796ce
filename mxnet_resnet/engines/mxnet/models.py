"""Networks as Gluon blocks: images (N, 3, H, W) to class scores (N, classes) before the softmax.

>>> net = mxnet_resnet.PreActResNet50()
>>> net.set_head(gluon.nn.Dense(1000, in_units=net.out_planes))
>>> net = mxnet_resnet.build("preact_resnet164", classes=100)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.blocks import (
    SHORTCUTS,
    BasicBlock,
    BatchNorm,
    FullProjectionShortcut,
    PreActBlock,
    ProjectionShortcut,
    block_of,
    convolution,
)
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import DATA_NORMS, SHORTCUT_NAMES, Architecture

# He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, equation 14: a deviation of sqrt(2 / fan out).
HE_FAN_OUT = init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)


class _Network(HybridBlock):
    preact = False
    default_block: Callable[..., HybridBlock]

    def __init__(
        self,
        dimensions: Sequence[tuple[int, int]],
        block: Callable[..., HybridBlock] | None = None,
        *,
        shortcut: Callable[..., HybridBlock] | str = ProjectionShortcut,
        in_planes: int = 3,
        width: int = 1,
        drop_rate: float = 0.0,
        small_images: bool = False,
        zero_init_residual: bool = False,
        initializer: init.Initializer | None = HE_FAN_OUT,
        classes: int | None = None,
        norm: Callable[..., HybridBlock] = BatchNorm,
        data_norm: str | None = None,
        stem_norm: bool | None = None,
        stem_relu: bool = True,
        project_first: bool = False,
    ):
        super().__init__(prefix="")
        _check(dimensions, in_planes, drop_rate, data_norm)
        width = whole("width", width)
        classes = None if classes is None else whole("classes", classes)
        self.head = None
        stem_norm = not self.preact if stem_norm is None else stem_norm
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            if data_norm:
                self.features.add(
                    norm(in_planes, scale=data_norm == "full", shift=data_norm != "plain", prefix="bn_data_")
                )
            channels = dimensions[0][1]
            self.features.add(*_stem(in_planes, channels, small_images, norm if stem_norm else None, stem_relu))
            for number, (units, planes) in enumerate(dimensions[1:], start=1):
                stage = nn.HybridSequential(prefix="")
                with stage.name_scope():
                    for index in range(1, units + 1):
                        first = index == 1
                        unit = (block or self.default_block)(
                            channels,
                            planes,
                            shortcut=FullProjectionShortcut if first and project_first else _shortcut(shortcut),
                            stride=2 if first and number > 1 else 1,
                            width=width,
                            drop_rate=drop_rate,
                            norm=norm,
                            prefix=f"stage{number}_unit{index}_",
                        )
                        channels = unit.out_planes
                        stage.add(unit)
                self.features.add(stage)
            if self.preact:
                self.features.add(norm(channels, prefix="bn1_"), nn.Activation("relu", prefix="relu1_"))
            self.features.add(nn.GlobalAvgPool2D(prefix="pool1_"))
        self.out_planes = channels
        _initialize(self, initializer, zero_init_residual)
        if classes is not None:
            self.set_head(_classifier(channels, classes, initializer))

    def set_head(self, head: HybridBlock | None) -> None:
        """Put a block behind the pooled features (N, out_planes), or None to get these themselves.

        Initialize the head if the net was initialized before.
        """
        if head is not None and not isinstance(head, HybridBlock):
            raise UserError(f"a head is a HybridBlock or None, not {type(head).__name__}")
        self.__dict__.pop("head")
        self._children.pop("head", None)
        self.head = head
        self._clear_cached_op()

    def hybrid_forward(self, F, x):
        # Named, because fine-tuning scripts cut published graphs at `flatten0_output`.
        x = F.Flatten(self.features(x), name="flatten0")
        return x if self.head is None else self.head(x)


class ResNet(_Network):
    """A post-activation ResNet (arXiv 1512.03385) of any stages and any block.

    Args:
        dimensions: (1, channels) of the first convolution, then (units, planes) of each stage.
        block: makes a unit as ``block(in_planes, planes, shortcut=..., stride=..., width=..., drop_rate=..., norm=...,
            prefix=...)`` with an attribute ``out_planes``; BasicBlock (PreActBlock in PreActResNet) by default.
        shortcut: a class of blocks.SHORTCUTS, or a key of architecture.SHORTCUT_NAMES such as ``"A"``.
        in_planes: channels of the images.
        width: factor on the channels of the 3x3 convolutions (arXiv 1605.07146).
        drop_rate: dropout in basic units, in [0, 1).
        small_images: begin with a 3x3 convolution of stride 1 in place of a 7x7 one and a max pooling.
        zero_init_residual: let every unit begin as its shortcut alone (arXiv 1706.02677).
        initializer: of the convolutions; None leaves it to ``net.initialize(...)``.
        classes: add a classifier, a dense layer, as the head; None leaves the pooled features.
        norm: makes a BatchNorm as ``norm(channels, prefix=...)``.
        data_norm, stem_norm, stem_relu, project_first: as in architecture.Architecture.

    Raises UserError for dimensions, widths, drop rates or numbers of classes that mean nothing.
    """

    default_block = BasicBlock


class PreActResNet(_Network):
    """A pre-activation ResNet (arXiv 1603.05027) of any stages and any block; arguments as in ResNet."""

    preact = True
    default_block = PreActBlock


def _check(dimensions: Sequence[tuple[int, int]], in_planes: int, drop_rate: float, data_norm: str | None) -> None:
    """Raise UserError for what no net can have."""
    pairs = [tuple(pair) if isinstance(pair, (tuple, list)) else () for pair in dimensions]
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs) or pairs[0][0] != 1:
        raise UserError(f"dimensions {list(dimensions)} are not (1, channels), then (units, planes) of each stage")
    for number in (value for pair in pairs for value in pair):
        whole("units and planes", number)
    whole("in_planes", in_planes)
    if not isinstance(drop_rate, (int, float)) or not 0 <= drop_rate < 1:
        raise UserError(f"drop rate {drop_rate!r} is not in [0, 1)")
    if data_norm not in DATA_NORMS:
        raise UserError(f"there is no data_norm {data_norm!r}: it is one of {', '.join(map(repr, DATA_NORMS))}")


def whole(name: str, value: int) -> int:
    """``value`` as a whole number from 1 on. Raises UserError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise UserError(f"{name} {value!r} is not a whole number from 1 on")
    return number


def _shortcut(choice: Callable[..., HybridBlock] | str) -> Callable[..., HybridBlock]:
    if callable(choice):
        return choice
    if choice not in SHORTCUT_NAMES:
        raise UserError(f"there is no shortcut {choice!r}: it is one of {', '.join(SHORTCUT_NAMES)}")
    return SHORTCUTS[SHORTCUT_NAMES[choice]]


def _stem(
    in_planes: int, channels: int, small_images: bool, norm: Callable[..., HybridBlock] | None, relu: bool
) -> list[HybridBlock]:
    kernel, stride = (3, 1) if small_images else (7, 2)
    layers = [convolution(channels, kernel, stride, in_planes, prefix="conv0_")]
    if norm:
        layers.append(norm(channels, prefix="bn0_"))
        if relu:
            layers.append(nn.Activation("relu", prefix="relu0_"))
    if not small_images:
        layers.append(nn.MaxPool2D(3, 2, padding=1, prefix="pooling0_"))
    return layers


def _initialize(net: _Network, initializer: init.Initializer | None, zero_init_residual: bool) -> None:
    """Note how each parameter is to be initialized; ``net.initialize()`` does it."""
    if initializer is not None:
        for parameter in net.collect_params(".*weight").values():
            if len(parameter.shape) == 4:
                parameter.init = initializer
    if zero_init_residual:
        for stage in net.features:
            for unit in stage if isinstance(stage, nn.HybridSequential) else ():
                if hasattr(unit, "zero_init_residual"):
                    unit.zero_init_residual()


def _classifier(in_units: int, classes: int, initializer: init.Initializer | None) -> nn.Dense:
    if initializer is None:
        return nn.Dense(classes, in_units=in_units, prefix="fc1_")
    uniform = init.Uniform(in_units**-0.5)  # as PyTorch's linear layers
    return nn.Dense(classes, in_units=in_units, weight_initializer=uniform, bias_initializer=uniform, prefix="fc1_")


def from_architecture(plan: Architecture, classes: int | None = None, bn_momentum: float = 0.9, **options) -> _Network:
    """The net of a plan. ``options`` are arguments of ResNet and take precedence over the plan's.

    A shortcut among them counts in the first units too, which a plan may project anyway.
    """
    if not 0 <= bn_momentum <= 1:
        raise UserError(f"bn_momentum {bn_momentum} is not in [0, 1]")
    if "shortcut" in options:
        options.setdefault("project_first", False)
    defaults = {
        "block": block_of(plan.bottleneck, plan.preact, plan.stride_first, plan.bias),
        "shortcut": plan.shortcut,
        "width": plan.width,
        "drop_rate": plan.drop_rate,
        "small_images": plan.small_images,
        "data_norm": plan.data_norm,
        "stem_norm": plan.stem_norm,
        "stem_relu": plan.stem_relu,
        "project_first": plan.project_first,
        "initializer": HE_FAN_OUT if plan.he_init else None,
        "norm": partial(BatchNorm, momentum=bn_momentum, epsilon=plan.epsilon),
    }
    kind = PreActResNet if plan.preact else ResNet
    return kind(plan.dimensions, **{**defaults, **options, "classes": classes})


def build(name: str, classes: int | None = None, **options) -> _Network:
    """The named net (see list_models), e.g. ``build("resnet18", classes=10, small_images=True, shortcut="A")``.

    Raises UserError for a name there is not (with the nearest), and as ResNet does.
    """
    return from_architecture(architecture.find(name), classes, **options)


def list_models() -> list[str]:
    """The names that ``build`` takes."""
    return sorted(architecture.MODELS)


def count_parameters(net: HybridBlock) -> int:
    """The number of trained values; running statistics and fixed gammas do not count."""
    parameters = net.collect_params().values()
    return sum(int(_size(parameter.shape)) for parameter in parameters if parameter.grad_req != "null")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def count_layers(net: HybridBlock, kinds: tuple[type, ...] = (nn.Conv2D, nn.Dense)) -> int:
    """The number of layers of these kinds, projections included, which the names of the nets do not count."""
    found = []
    net.apply(lambda block: found.append(isinstance(block, kinds)))
    return sum(found)


def _named(name: str, plan_name: str) -> type[_Network]:
    """The class of a named plan; its keywords are those of ResNet and take precedence over the plan's."""
    plan = architecture.find(plan_name)
    base = PreActResNet if plan.preact else ResNet
    of_plan = {
        "block": block_of(plan.bottleneck, plan.preact),
        "width": plan.width,
        "drop_rate": plan.drop_rate,
        "small_images": plan.small_images,
    }

    def __init__(self, **options):
        base.__init__(self, plan.dimensions, **{**of_plan, **options})

    doc = f"The net ``{plan_name}``; keywords as in {base.__name__}, without dimensions."
    return type(name, (base,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})


ResNet18 = _named("ResNet18", "resnet18")
ResNet34 = _named("ResNet34", "resnet34")
ResNet50 = _named("ResNet50", "resnet50")
ResNet101 = _named("ResNet101", "resnet101")
ResNet152 = _named("ResNet152", "resnet152")
ResNet200 = _named("ResNet200", "resnet200")
ResNet20 = _named("ResNet20", "resnet20")
ResNet32 = _named("ResNet32", "resnet32")
ResNet44 = _named("ResNet44", "resnet44")
ResNet56 = _named("ResNet56", "resnet56")
ResNet110 = _named("ResNet110", "resnet110")
ResNet164 = _named("ResNet164", "resnet164")
ResNet1001 = _named("ResNet1001", "resnet1001")
ResNet1202 = _named("ResNet1202", "resnet1202")
WideResNet16 = _named("WideResNet16", "wide_resnet16_1")
WideResNet28 = _named("WideResNet28", "wide_resnet28_1")
WideResNet40 = _named("WideResNet40", "wide_resnet40_1")
WideResNet50_2 = _named("WideResNet50_2", "wide_resnet50_2")
WideResNet101_2 = _named("WideResNet101_2", "wide_resnet101_2")
PreActResNet18 = _named("PreActResNet18", "preact_resnet18")
PreActResNet34 = _named("PreActResNet34", "preact_resnet34")
PreActResNet50 = _named("PreActResNet50", "preact_resnet50")
PreActResNet101 = _named("PreActResNet101", "preact_resnet101")
PreActResNet152 = _named("PreActResNet152", "preact_resnet152")
PreActResNet200 = _named("PreActResNet200", "preact_resnet200")
PreActResNet20 = _named("PreActResNet20", "preact_resnet20")
PreActResNet32 = _named("PreActResNet32", "preact_resnet32")
PreActResNet44 = _named("PreActResNet44", "preact_resnet44")
PreActResNet56 = _named("PreActResNet56", "preact_resnet56")
PreActResNet110 = _named("PreActResNet110", "preact_resnet110")
PreActResNet164 = _named("PreActResNet164", "preact_resnet164")
PreActResNet1001 = _named("PreActResNet1001", "preact_resnet1001")
PreActResNet1202 = _named("PreActResNet1202", "preact_resnet1202")
PreActWideResNet16 = _named("PreActWideResNet16", "preact_wide_resnet16_1")
PreActWideResNet28 = _named("PreActWideResNet28", "preact_wide_resnet28_1")
PreActWideResNet40 = _named("PreActWideResNet40", "preact_wide_resnet40_1")
PreActWideResNet50_2 = _named("PreActWideResNet50_2", "preact_wide_resnet50_2")
PreActWideResNet101_2 = _named("PreActWideResNet101_2", "preact_wide_resnet101_2")
