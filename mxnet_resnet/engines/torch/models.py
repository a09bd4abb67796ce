"""Networks as PyTorch modules: images (N, 3, H, W) to class scores (N, classes) before the softmax.

>>> net = mxnet_resnet.torch.PreActResNet50()
>>> net.set_head(nn.Linear(net.out_planes, 1000))
>>> net = mxnet_resnet.torch.build("preact_resnet164", classes=100)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import nn

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch.blocks import BasicBlock, PreActBlock
from mxnet_resnet.engines.torch.layers import BatchNorm, GlobalAveragePool, convolution
from mxnet_resnet.engines.torch.registry import choose_block, find_block
from mxnet_resnet.engines.torch.shortcuts import FullProjectionShortcut, ProjectionShortcut, find_shortcut
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.plans.checks import check_arguments, check_momentum, check_whole

# He et al., "Delving Deep into Rectifiers", arXiv 1502.01852, equation 14: a deviation of sqrt(2 / fan out).
HE_FAN_OUT = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


class _Network(nn.Module):
    preact = False
    default_block: Callable[..., nn.Module]
    runs: Sequence[Callable[[torch.Tensor], torch.Tensor]] = ()  # in place of the units, for memory mirroring

    def __init__(
        self,
        dimensions: Sequence[tuple[int, int]],
        block: Callable[..., nn.Module] | str | None = None,
        *,
        shortcut: Callable[..., nn.Module] | str = ProjectionShortcut,
        in_planes: int = 3,
        width: int = 1,
        drop_rate: float = 0.0,
        small_images: bool = False,
        zero_init_residual: bool = False,
        initializer: Callable[[torch.Tensor], object] | None = HE_FAN_OUT,
        classes: int | None = None,
        norm: Callable[..., nn.Module] = BatchNorm,
        data_norm: str | None = None,
        stem_norm: bool | None = None,
        stem_relu: bool = True,
        project_first: bool = False,
    ):
        super().__init__()
        check_arguments(dimensions, in_planes, drop_rate, data_norm)
        width = check_whole("width", width)
        classes = None if classes is None else check_whole("classes", classes)
        block = find_block(block) if isinstance(block, str) else block or self.default_block
        shortcut = find_shortcut(shortcut) if isinstance(shortcut, str) else shortcut
        self.data_norm = nn.Identity()
        if data_norm:
            self.data_norm = norm(in_planes, scale=data_norm == "full", shift=data_norm != "plain")
        channels = dimensions[0][1]
        stem_norm = not self.preact if stem_norm is None else stem_norm
        stem = _make_stem(in_planes, channels, small_images, norm if stem_norm else None, stem_relu)
        # torch-resnet's pre-activation nets for small images begin with the convolution itself
        self.init_layer = stem[0] if self.preact and len(stem) == 1 else nn.Sequential(*stem)
        make_unit = partial(block, width=width, drop_rate=drop_rate)
        if norm is not BatchNorm:  # torch-resnet's own kinds of blocks take none
            make_unit = partial(make_unit, norm=norm)
        first_shortcut = FullProjectionShortcut if project_first else shortcut
        self.layers = nn.Sequential(*_make_stages(dimensions, make_unit, shortcut, first_shortcut))
        self.out_planes = self.units[-1].out_planes
        if self.preact:
            self.norm = norm(self.out_planes)
            self.relu = nn.ReLU(inplace=True)
        self.avgpool = GlobalAveragePool()
        self.head: nn.Module = nn.Identity()
        _initialize(self, initializer, zero_init_residual)
        if classes is not None:
            self.set_head(nn.Linear(self.out_planes, classes))

    @property
    def units(self) -> list[nn.Module]:
        """The residual units, in the order in which they are computed."""
        return [unit for stage in self.layers for unit in stage]

    def set_head(self, head: nn.Module | None) -> None:
        """Put a module behind the pooled features (N, out_planes), or None to get these themselves."""
        if head is not None and not isinstance(head, nn.Module):
            raise UserError(f"a head is a torch.nn.Module or None, not {type(head).__name__}")
        self.head = head or nn.Identity()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map (N, out_planes, H, W), before the pooling, of images (N, in_planes, H, W)."""
        x = self.init_layer(self.data_norm(x))
        for run in self.runs or self.units:
            x = run(x)
        return self.relu(self.norm(x)) if self.preact else x

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """The scores (N, classes) of last feature maps (N, out_planes, H, W)."""
        return self.head(self.avgpool(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x))


class ResNet(_Network):
    """A post-activation ResNet (arXiv 1512.03385) of any stages and any block.

    Its ``state_dict`` is that of torch-resnet's net, where that library has such a net.

    Args:
        dimensions: (1, channels) of the first convolution, then (units, planes) of each stage.
        block: makes a unit as ``block(in_planes, planes, shortcut=..., stride=..., width=..., drop_rate=...)``, with
            ``norm=...`` where that is not BatchNorm as it stands, and with an attribute ``out_planes``; or is the name
            of a registered one; BasicBlock (PreActBlock in PreActResNet) by default.
        shortcut: a class of shortcuts.SHORTCUTS, or a key of architecture.SHORTCUT_NAMES such as ``"A"``.
        in_planes: channels of the images.
        width: factor on the channels of the 3x3 convolutions (arXiv 1605.07146).
        drop_rate: dropout in basic units, in [0, 1).
        small_images: begin with a 3x3 convolution of stride 1 in place of a 7x7 one and a max pooling.
        zero_init_residual: let every unit begin as its shortcut alone (arXiv 1706.02677).
        initializer: fills the weight of each convolution; None leaves them as PyTorch draws them.
        classes: add a classifier, a linear layer, as the head; None leaves the pooled features.
        norm: makes a BatchNorm as ``norm(channels)``.
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
    in_planes: int, channels: int, small_images: bool, norm: Callable[..., nn.Module] | None, relu: bool
) -> list[nn.Module]:
    kernel, stride = (3, 1) if small_images else (7, 2)
    layers: list[nn.Module] = [convolution(in_planes, channels, kernel, stride)]
    if norm:
        layers.append(norm(channels))
        if relu:
            layers.append(nn.ReLU(inplace=True))
    if not small_images:
        layers.append(nn.MaxPool2d(3, 2, padding=1))
    return layers


def _make_stages(
    dimensions: Sequence[tuple[int, int]],
    make_unit: Callable[..., nn.Module],
    shortcut: Callable[..., nn.Module],
    first_shortcut: Callable[..., nn.Module],
) -> list[nn.Sequential]:
    """The stages of units; ``first_shortcut`` is for the first unit of each."""
    stages = []
    channels = dimensions[0][1]
    for number, (units, planes) in enumerate(dimensions[1:], start=1):
        stage = nn.Sequential()
        for index in range(1, units + 1):
            first = index == 1
            unit = make_unit(
                channels,
                planes,
                shortcut=first_shortcut if first else shortcut,
                stride=2 if first and number > 1 else 1,
            )
            stage.append(unit)
            channels = unit.out_planes
        stages.append(stage)
    return stages


def _initialize(net: _Network, initializer: Callable[[torch.Tensor], object] | None, zero_init_residual: bool) -> None:
    """Draw the convolutions; BatchNorms begin as the identity, by PyTorch and here."""
    if initializer is not None:
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                initializer(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    if zero_init_residual:
        for unit in net.units:
            if hasattr(unit, "zero_init_residual"):
                unit.zero_init_residual()


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


def count_parameters(net: nn.Module) -> int:
    """The number of trained values; running statistics and fixed gammas do not count."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def count_layers(net: nn.Module, kinds: tuple[type, ...] = (nn.Conv2d, nn.Linear)) -> int:
    """The number of layers of these kinds, projections included, which the names of the nets do not count."""
    return sum(isinstance(module, kinds) for module in net.modules())


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
