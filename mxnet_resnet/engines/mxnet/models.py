"""Networks as Gluon blocks: images (N, 3, H, W) to class scores (N, classes) before the softmax.

>>> net = mxnet_resnet.PreActResNet50()
>>> net.set_head(gluon.nn.Dense(1000, in_units=net.out_planes))
>>> net = mxnet_resnet.build("preact_resnet164", classes=100)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from math import prod

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.blocks import BasicBlock, PreActBlock
from mxnet_resnet.engines.mxnet.layers import BatchNorm, convolution
from mxnet_resnet.engines.mxnet.registry import choose_block, find_block
from mxnet_resnet.engines.mxnet.shortcuts import FullProjectionShortcut, ProjectionShortcut, find_shortcut
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.plans.checks import check_arguments, check_momentum, check_whole

# He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, equation 14: a deviation of sqrt(2 / fan out).
HE_FAN_OUT = init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)


class _Network(HybridBlock):
    preact = False
    default_block: Callable[..., HybridBlock]

    def __init__(
        self,
        dimensions: Sequence[tuple[int, int]],
        block: Callable[..., HybridBlock] | str | None = None,
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
        check_arguments(dimensions, in_planes, drop_rate, data_norm)
        width = check_whole("width", width)
        classes = None if classes is None else check_whole("classes", classes)
        block = find_block(block) if isinstance(block, str) else block or self.default_block
        shortcut = find_shortcut(shortcut) if isinstance(shortcut, str) else shortcut
        stem_norm = not self.preact if stem_norm is None else stem_norm
        self.head = None
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            if data_norm:
                scale, shift = data_norm == "full", data_norm != "plain"
                self.features.add(norm(in_planes, scale=scale, shift=shift, prefix="bn_data_"))
            channels = dimensions[0][1]
            self.features.add(*_make_stem(in_planes, channels, small_images, norm if stem_norm else None, stem_relu))
            make_unit = partial(block, width=width, drop_rate=drop_rate, norm=norm)
            first_shortcut = FullProjectionShortcut if project_first else shortcut
            stages = _make_stages(dimensions, make_unit, shortcut, first_shortcut)
            self.features.add(*stages)
            self.out_planes = stages[-1][-1].out_planes
            if self.preact:
                self.features.add(norm(self.out_planes, prefix="bn1_"), nn.Activation("relu", prefix="relu1_"))
            self.features.add(nn.GlobalAvgPool2D(prefix="pool1_"))
        _note_initializers(self, initializer, zero_init_residual)
        if classes is not None:
            self.set_head(_make_classifier(self.out_planes, classes, initializer))

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
            prefix=...)`` with an attribute ``out_planes``, or is the name of a registered one; BasicBlock (PreActBlock
            in PreActResNet) by default.
        shortcut: a class of shortcuts.SHORTCUTS, or a key of architecture.SHORTCUT_NAMES such as ``"A"``.
        in_planes: channels of the images.
        width: factor on the channels of the 3x3 convolutions (arXiv 1605.07146).
        drop_rate: dropout in basic units, in [0, 1).
        small_images: begin with a 3x3 convolution of stride 1 in place of a 7x7 one and a max pooling.
        zero_init_residual: let every unit begin as its shortcut alone (arXiv 1706.02677).
        initializer: of the convolutions; None leaves it to ``net.initialize(...)``.
        classes: add a classifier, a dense layer, as the head; None leaves the pooled features.
        norm: makes a BatchNorm as ``norm(channels, prefix=...)``.
        data_norm, stem_norm, stem_relu, project_first: as in architecture.Architecture.

    Raises UserError for dimensions, widths, drop rates or numbers of classes that mean nothing, and for blocks and
    shortcuts there are not.
    """

    default_block = BasicBlock


class PreActResNet(_Network):
    """A pre-activation ResNet (arXiv 1603.05027) of any stages and any block; arguments as in ResNet."""

    preact = True
    default_block = PreActBlock


def _make_stem(
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


def _make_stages(
    dimensions: Sequence[tuple[int, int]],
    make_unit: Callable[..., HybridBlock],
    shortcut: Callable[..., HybridBlock],
    first_shortcut: Callable[..., HybridBlock],
) -> list[nn.HybridSequential]:
    """The stages of units; ``first_shortcut`` is for the first unit of each."""
    stages = []
    channels = dimensions[0][1]
    for number, (units, planes) in enumerate(dimensions[1:], start=1):
        stage = nn.HybridSequential(prefix="")
        for index in range(1, units + 1):
            first = index == 1
            unit = make_unit(
                channels,
                planes,
                shortcut=first_shortcut if first else shortcut,
                stride=2 if first and number > 1 else 1,
                prefix=f"stage{number}_unit{index}_",
            )
            stage.add(unit)
            channels = unit.out_planes
        stages.append(stage)
    return stages


def _note_initializers(net: _Network, initializer: init.Initializer | None, zero_init_residual: bool) -> None:
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


def _make_classifier(in_units: int, classes: int, initializer: init.Initializer | None) -> nn.Dense:
    if initializer is None:
        return nn.Dense(classes, in_units=in_units, prefix="fc1_")
    uniform = init.Uniform(in_units**-0.5)  # as PyTorch's linear layers
    return nn.Dense(classes, in_units=in_units, weight_initializer=uniform, bias_initializer=uniform, prefix="fc1_")


def from_architecture(plan: Architecture, classes: int | None = None, bn_momentum: float = 0.9, **options) -> _Network:
    """The net of a plan. ``options`` are arguments of ResNet and take precedence over the plan's.

    A shortcut among them counts in the first units too, which a plan may project anyway.
    """
    if "shortcut" in options:
        options.setdefault("project_first", False)
    kind = PreActResNet if plan.preact else ResNet
    return kind(plan.dimensions, **{**_keywords(plan, bn_momentum), **options, "classes": classes})


def _keywords(plan: Architecture, bn_momentum: float = 0.9) -> dict[str, object]:
    """A plan as arguments of ResNet, but for its dimensions."""
    check_momentum(bn_momentum)
    return {
        "block": choose_block(plan),
        **plan.options,
        "initializer": HE_FAN_OUT if plan.he_init else None,
        "norm": partial(BatchNorm, momentum=bn_momentum, epsilon=plan.epsilon),
    }


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
    return sum(int(prod(parameter.shape)) for parameter in parameters if parameter.grad_req != "null")


def count_layers(net: HybridBlock, kinds: tuple[type, ...] = (nn.Conv2D, nn.Dense)) -> int:
    """The number of layers of these kinds, projections included, which the names of the nets do not count."""
    found = []
    net.apply(lambda block: found.append(isinstance(block, kinds)))
    return sum(found)


@cache
def _named_class(name: str) -> type[_Network]:
    """The class of a named plan; its keywords are those of ResNet and take precedence over the plan's."""
    plan_name = architecture.CLASSES[name]
    plan = architecture.find(plan_name)
    base = PreActResNet if plan.preact else ResNet

    def __init__(self, **options):
        base.__init__(self, plan.dimensions, **{**_keywords(plan), **options})

    doc = f"The net ``{plan_name}``; keywords as in {base.__name__}, without dimensions."
    return type(name, (base,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})


def __getattr__(name: str) -> type[_Network]:
    """The classes of architecture.CLASSES, such as ``PreActResNet18``, made when they are asked for."""
    if name in architecture.CLASSES:
        return _named_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *architecture.CLASSES))
