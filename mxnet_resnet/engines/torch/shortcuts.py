"""The paths around the convolutions of a residual unit: (N, C, H, W) to (N, C', H/stride, W/stride)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mxnet_resnet.engines.torch.layers import convolution
from mxnet_resnet.plans.checks import check_identity, find_shortcut_name


class Shortcut(nn.Module):
    """The path around the convolutions of a unit, from ``in_planes`` to ``out_planes`` channels at 1/stride the size.

    ``projects`` tells that it has weights of its own, behind which a post-activation unit puts a BatchNorm;
    ``requires_activation``, that in a pre-activation unit it starts from the activated input.
    """

    kernel = 1
    always = False
    from_activation = True

    def __init__(self, in_planes: int, out_planes: int, stride: int):
        super().__init__()
        self.projects = self.always or stride != 1 or in_planes != out_planes
        self.requires_activation = self.projects and self.from_activation
        self.conv = convolution(in_planes, out_planes, self.kernel, stride) if self.projects else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ProjectionShortcut(Shortcut):
    """Option B of arXiv 1512.03385, section 4.1: a 1x1 convolution where the shapes differ, else the input itself."""


class FullProjectionShortcut(Shortcut):
    """Option C of arXiv 1512.03385, section 4.1: a 1x1 convolution everywhere."""

    always = True


class ConvolutionShortcut(Shortcut):
    """A 3x3 convolution where the shapes differ, so that no input is passed over (torch-resnet)."""

    kernel = 3


class RawProjectionShortcut(Shortcut):
    """Option B that starts from the input itself in pre-activation units too (GluonCV's CIFAR v2 nets)."""

    from_activation = False


class IdentityShortcut(nn.Module):
    """Option A of arXiv 1512.03385, section 4.1: every stride-th pixel, and channels of zeros behind the input's."""

    projects = requires_activation = False
    zeros_before = 0.0  # the share of the new channels that comes before the input's

    def __init__(self, in_planes: int, out_planes: int, stride: int):
        super().__init__()
        check_identity(in_planes, out_planes)
        self.stride, self.new_planes = stride, out_planes - in_planes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if not self.new_planes:
            return x
        before = int(self.new_planes * self.zeros_before)
        return functional.pad(x, (0, 0, 0, 0, before, self.new_planes - before))


class CenteredIdentityShortcut(IdentityShortcut):
    """Option A with half of the channels of zeros on either side (akamaster/pytorch_resnet_cifar10)."""

    zeros_before = 0.5


SHORTCUTS = {
    "identity": IdentityShortcut,
    "centered_identity": CenteredIdentityShortcut,
    "projection": ProjectionShortcut,
    "raw_projection": RawProjectionShortcut,
    "full_projection": FullProjectionShortcut,
    "convolution": ConvolutionShortcut,
}


def find_shortcut(name: str) -> type[nn.Module]:
    """The class of a shortcut by a key of architecture.SHORTCUT_NAMES. Raises UserError, which names these."""
    return SHORTCUTS[find_shortcut_name(name)]
