"""Residual units, each a class that reads from top to bottom; a Symbol is a unit traced (see symbols.py).

A variant of a unit is a subclass that says what the residual passes through before the addition: Unit.make_refinement.
"""

from __future__ import annotations

from collections.abc import Callable

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from mxnet_resnet.engines.mxnet.layers import BatchNorm, convolution
from mxnet_resnet.engines.mxnet.registry import register
from mxnet_resnet.engines.mxnet.shortcuts import ProjectionShortcut
from mxnet_resnet.plans.checks import refuse_dropout


class Unit(HybridBlock):
    """A residual unit: (N, in_planes, H, W) to (N, out_planes, H/stride, W/stride).

    Layers have the names of the published MXNet ResNet-v2 checkpoints. Each unit makes a BatchNorm before the
    convolution of the same number, whichever it applies first: a Gluon Trainer's states go by the order of parameters.

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
        norm: makes a BatchNorm as ``norm(channels, prefix=...)``.
    """

    expansion = 1
    out_planes: int

    def make_refinement(self, channels: int) -> HybridBlock | None:
        """What the residual (N, channels, H, W) passes through before it is added to the shortcut, or None.

        This is for variants to override. The block keeps the shape, and its ``prefix`` begins its parameters' names.
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
        shortcut: Callable[..., HybridBlock] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., HybridBlock] = BatchNorm,
        prefix: str | None = None,
    ):
        super().__init__(prefix=prefix)
        channels = self.out_planes = planes * width
        with self.name_scope():
            self.bn1 = norm(channels, prefix="bn1_")
            self.conv1 = convolution(channels, 3, stride, in_planes, prefix="conv1_")
            self.relu1 = nn.Activation("relu", prefix="relu1_")
            self.bn2 = norm(channels, prefix="bn2_")
            self.conv2 = convolution(channels, 3, 1, channels, prefix="conv2_")
            self.relu2 = nn.Activation("relu", prefix="relu2_")
            self.dropout = nn.Dropout(drop_rate, prefix="dropout_") if drop_rate else None
            self.shortcut = shortcut(in_planes, channels, stride)
            self.sc_bn = norm(channels, prefix="sc_bn_") if self.shortcut.projects else None
            self.refinement = self.make_refinement(channels)

    def hybrid_forward(self, F, x):
        shortcut = self.shortcut(x)
        if self.sc_bn is not None:
            shortcut = self.sc_bn(shortcut)
        x = self.relu1(self.bn1(self.conv1(x)))
        if self.dropout is not None:
            x = self.dropout(x)
        x = self.bn2(self.conv2(x))
        if self.refinement is not None:
            x = self.refinement(x)
        return self.relu2(F.elemwise_add(x, shortcut, name="plus"))

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last gamma is zero (Goyal et al., arXiv 1706.02677, section 5.1)."""
        self.bn2.gamma.init = init.Zero()


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
        shortcut: Callable[..., HybridBlock] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., HybridBlock] = BatchNorm,
        stride_first: bool = False,
        bias: bool = False,
        prefix: str | None = None,
    ):
        refuse_dropout(drop_rate)
        super().__init__(prefix=prefix)
        middle = planes * width
        channels = self.out_planes = planes * self.expansion
        stride1, stride2 = (stride, 1) if stride_first else (1, stride)
        with self.name_scope():
            self.bn1 = norm(middle, prefix="bn1_")
            self.conv1 = convolution(middle, 1, stride1, in_planes, prefix="conv1_", bias=bias)
            self.relu1 = nn.Activation("relu", prefix="relu1_")
            self.bn2 = norm(middle, prefix="bn2_")
            self.conv2 = convolution(middle, 3, stride2, middle, prefix="conv2_")
            self.relu2 = nn.Activation("relu", prefix="relu2_")
            self.bn3 = norm(channels, prefix="bn3_")
            self.conv3 = convolution(channels, 1, 1, middle, prefix="conv3_", bias=bias)
            self.relu3 = nn.Activation("relu", prefix="relu3_")
            self.shortcut = shortcut(in_planes, channels, stride)
            self.sc_bn = norm(channels, prefix="sc_bn_") if self.shortcut.projects else None
            self.refinement = self.make_refinement(channels)

    def hybrid_forward(self, F, x):
        shortcut = self.shortcut(x)
        if self.sc_bn is not None:
            shortcut = self.sc_bn(shortcut)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        if self.refinement is not None:
            x = self.refinement(x)
        return self.relu3(F.elemwise_add(x, shortcut, name="plus"))

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone, as BasicBlock does."""
        self.bn3.gamma.init = init.Zero()


@register("preact_basic")
class PreActBlock(Unit):
    """Pre-activation unit of two 3x3 convolutions (arXiv 1603.05027, figures 1b and 4e); the first has the stride."""

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., HybridBlock] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., HybridBlock] = BatchNorm,
        prefix: str | None = None,
    ):
        super().__init__(prefix=prefix)
        channels = self.out_planes = planes * width
        with self.name_scope():
            self.bn1 = norm(in_planes, prefix="bn1_")
            self.conv1 = convolution(channels, 3, stride, in_planes, prefix="conv1_")
            self.relu1 = nn.Activation("relu", prefix="relu1_")
            self.bn2 = norm(channels, prefix="bn2_")
            self.conv2 = convolution(channels, 3, 1, channels, prefix="conv2_")
            self.relu2 = nn.Activation("relu", prefix="relu2_")
            self.dropout = nn.Dropout(drop_rate, prefix="dropout_") if drop_rate else None
            self.shortcut = shortcut(in_planes, channels, stride)
            self.refinement = self.make_refinement(channels)

    def hybrid_forward(self, F, x):
        activated = self.relu1(self.bn1(x))
        shortcut = self.shortcut(activated if self.shortcut.requires_activation else x)
        x = self.relu2(self.bn2(self.conv1(activated)))
        if self.dropout is not None:
            x = self.dropout(x)
        x = self.conv2(x)
        if self.refinement is not None:
            x = self.refinement(x)
        return F.elemwise_add(x, shortcut, name="plus")

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last convolution is zero (torch-resnet, after arXiv 1706.02677)."""
        self.conv2.weight.init = init.Zero()


@register("preact_bottleneck")
class PreActBottleneck(Unit):
    """Pre-activation unit of 1x1, 3x3 and 1x1 convolutions (arXiv 1603.05027, section 3); options as in Bottleneck."""

    expansion = 4

    def __init__(
        self,
        in_planes: int,
        planes: int,
        *,
        shortcut: Callable[..., HybridBlock] = ProjectionShortcut,
        stride: int = 1,
        width: int = 1,
        drop_rate: float = 0.0,
        norm: Callable[..., HybridBlock] = BatchNorm,
        stride_first: bool = False,
        bias: bool = False,
        prefix: str | None = None,
    ):
        refuse_dropout(drop_rate)
        super().__init__(prefix=prefix)
        middle = planes * width
        channels = self.out_planes = planes * self.expansion
        stride1, stride2 = (stride, 1) if stride_first else (1, stride)
        with self.name_scope():
            self.bn1 = norm(in_planes, prefix="bn1_")
            self.conv1 = convolution(middle, 1, stride1, in_planes, prefix="conv1_", bias=bias)
            self.relu1 = nn.Activation("relu", prefix="relu1_")
            self.bn2 = norm(middle, prefix="bn2_")
            self.conv2 = convolution(middle, 3, stride2, middle, prefix="conv2_")
            self.relu2 = nn.Activation("relu", prefix="relu2_")
            self.bn3 = norm(middle, prefix="bn3_")
            self.conv3 = convolution(channels, 1, 1, middle, prefix="conv3_", bias=bias)
            self.relu3 = nn.Activation("relu", prefix="relu3_")
            self.shortcut = shortcut(in_planes, channels, stride)
            self.refinement = self.make_refinement(channels)

    def hybrid_forward(self, F, x):
        activated = self.relu1(self.bn1(x))
        shortcut = self.shortcut(activated if self.shortcut.requires_activation else x)
        x = self.relu2(self.bn2(self.conv1(activated)))
        x = self.relu3(self.bn3(self.conv2(x)))
        x = self.conv3(x)
        if self.refinement is not None:
            x = self.refinement(x)
        return F.elemwise_add(x, shortcut, name="plus")

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone, as PreActBlock does."""
        self.conv3.weight.init = init.Zero()
