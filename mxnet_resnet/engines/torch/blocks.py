"""Residual units, each a class that reads from top to bottom; their layers have the names of torch-resnet.

A variant of a unit is a subclass that says what the residual passes through before the addition: Unit.make_refinement.

A ReLU is in place where what it is given is nobody else's; the first of a pre-activation unit may be given the input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mxnet_resnet.engines.torch.layers import BatchNorm, convolution
from mxnet_resnet.engines.torch.registry import register
from mxnet_resnet.engines.torch.shortcuts import ProjectionShortcut
from mxnet_resnet.plans.checks import refuse_dropout


class Unit(nn.Module):
    """A residual unit: (N, in_planes, H, W) to (N, out_planes, H/stride, W/stride).

    Attributes:
        expansion: output channels by ``planes``, at width 1.
        out_planes: output channels.

    Args:
        in_planes: channels of the input.
        planes: channels before ``width`` and ``expansion``.
        shortcut: made as ``shortcut(in_planes, out_planes, stride)``.
        stride: of the unit.
        width: factor on the channels of the 3x3 convolutions.
        drop_rate: of the dropout before the last convolution; basic units only.
        norm: makes a BatchNorm as ``norm(channels)``.
    """

    expansion = 1
    out_planes: int

    def make_refinement(self, channels: int) -> nn.Module | None:
        """What the residual (N, channels, H, W) passes through before it is added to the shortcut, or None.

        This is for variants to override. The module keeps the shape.
        """
        return None


@register("basic")
class BasicBlock(Unit):
    """Post-activation unit of two 3x3 convolutions (arXiv 1512.03385, figure 5 left); the first has the stride."""

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., nn.Module] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., nn.Module] = BatchNorm,
    ):
        super().__init__()
        channels = self.out_planes = planes * width
        self.conv1 = convolution(in_planes, channels, 3, stride)
        self.bn1 = norm(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = convolution(channels, channels, 3, 1)
        self.bn2 = norm(channels)
        self.shortcut = _with_norm(shortcut(in_planes, channels, stride), norm, channels)
        self.refinement = self.make_refinement(channels) or nn.Identity()
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(self.dropout(x)))
        return self.relu2(self.refinement(x) + shortcut)

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last gamma is zero (Goyal et al., arXiv 1706.02677, section 5.1)."""
        nn.init.zeros_(self.bn2.weight)


@register("bottleneck")
class Bottleneck(Unit):
    """Post-activation unit of 1x1, 3x3 and 1x1 convolutions (arXiv 1512.03385, figure 5 right).

    The last has four times the planes. The 3x3 convolution has the stride (torchvision's "v1.5"), or with
    ``stride_first`` the first one (Gluon's v1). ``bias`` is for the 1x1 convolutions.
    """

    expansion = 4

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., nn.Module] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., nn.Module] = BatchNorm,
        stride_first: bool = False,
        bias: bool = False,
    ):
        refuse_dropout(drop_rate)
        super().__init__()
        middle = planes * width
        channels = self.out_planes = planes * self.expansion
        stride1, stride2 = (stride, 1) if stride_first else (1, stride)
        self.conv1 = convolution(in_planes, middle, 1, stride1, bias=bias)
        self.bn1 = norm(middle)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = convolution(middle, middle, 3, stride2)
        self.bn2 = norm(middle)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = convolution(middle, channels, 1, 1, bias=bias)
        self.bn3 = norm(channels)
        self.shortcut = _with_norm(shortcut(in_planes, channels, stride), norm, channels)
        self.refinement = self.make_refinement(channels) or nn.Identity()
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu3(self.refinement(x) + shortcut)

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone, as BasicBlock does."""
        nn.init.zeros_(self.bn3.weight)


@register("preact_basic")
class PreActBlock(Unit):
    """Pre-activation unit of two 3x3 convolutions (arXiv 1603.05027, figures 1b and 4e); the first has the stride."""

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., nn.Module] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., nn.Module] = BatchNorm,
    ):
        super().__init__()
        channels = self.out_planes = planes * width
        self.bn1 = norm(in_planes)
        self.relu1 = nn.ReLU()
        self.conv1 = convolution(in_planes, channels, 3, stride)
        self.bn2 = norm(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = convolution(channels, channels, 3, 1)
        self.shortcut = shortcut(in_planes, channels, stride)
        self.refinement = self.make_refinement(channels) or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu1(self.bn1(x))
        shortcut = self.shortcut(activated if self.shortcut.requires_activation else x)
        x = self.relu2(self.bn2(self.conv1(activated)))
        x = self.conv2(self.dropout(x))
        return self.refinement(x) + shortcut

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last convolution is zero (torch-resnet, after arXiv 1706.02677)."""
        nn.init.zeros_(self.conv2.weight)


@register("preact_bottleneck")
class PreActBottleneck(Unit):
    """Pre-activation unit of 1x1, 3x3 and 1x1 convolutions (arXiv 1603.05027, section 3); options as in Bottleneck."""

    expansion = 4

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., nn.Module] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., nn.Module] = BatchNorm,
        stride_first: bool = False,
        bias: bool = False,
    ):
        refuse_dropout(drop_rate)
        super().__init__()
        middle = planes * width
        channels = self.out_planes = planes * self.expansion
        stride1, stride2 = (stride, 1) if stride_first else (1, stride)
        self.bn1 = norm(in_planes)
        self.relu1 = nn.ReLU()
        self.conv1 = convolution(in_planes, middle, 1, stride1, bias=bias)
        self.bn2 = norm(middle)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = convolution(middle, middle, 3, stride2)
        self.bn3 = norm(middle)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv3 = convolution(middle, channels, 1, 1, bias=bias)
        self.shortcut = shortcut(in_planes, channels, stride)
        self.refinement = self.make_refinement(channels) or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.relu1(self.bn1(x))
        shortcut = self.shortcut(activated if self.shortcut.requires_activation else x)
        x = self.relu2(self.bn2(self.conv1(activated)))
        x = self.relu3(self.bn3(self.conv2(x)))
        x = self.conv3(x)
        return self.refinement(x) + shortcut

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone, as PreActBlock does."""
        nn.init.zeros_(self.conv3.weight)


def _with_norm(shortcut: nn.Module, norm: Callable[..., nn.Module], channels: int) -> nn.Sequential:
    """A shortcut, and behind it a BatchNorm where it has weights of its own."""
    projects = getattr(shortcut, "projects", shortcut.requires_activation)  # torch-resnet's have the latter alone
    return nn.Sequential(shortcut, norm(channels)) if projects else nn.Sequential(shortcut)
