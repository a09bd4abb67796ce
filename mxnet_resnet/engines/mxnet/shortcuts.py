"""The paths around the convolutions of a residual unit: (N, C, H, W) to (N, C', H/stride, W/stride)."""

from __future__ import annotations

from mxnet.gluon import HybridBlock

from mxnet_resnet.engines.mxnet.layers import convolution
from mxnet_resnet.plans.checks import check_identity, find_shortcut_name


class Shortcut(HybridBlock):
    """The path around the convolutions of a unit, from ``in_planes`` to ``out_planes`` channels at 1/stride the size.

    ``projects`` tells that it has weights of its own, behind which a post-activation unit puts a BatchNorm;
    ``requires_activation``, that in a pre-activation unit it starts from the activated input.
    """

    kernel = 1
    always = False
    from_activation = True

    def __init__(self, in_planes: int, out_planes: int, stride: int, prefix: str = ""):
        super().__init__(prefix=prefix)
        self.projects = self.always or stride != 1 or in_planes != out_planes
        self.requires_activation = self.projects and self.from_activation
        self.sc = None
        if self.projects:
            with self.name_scope():
                self.sc = convolution(out_planes, self.kernel, stride, in_planes, prefix="sc_")

    def hybrid_forward(self, F, x):
        return x if self.sc is None else self.sc(x)


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


class IdentityShortcut(HybridBlock):
    """Option A of arXiv 1512.03385, section 4.1: every stride-th pixel, and channels of zeros behind the input's."""

    projects = requires_activation = False
    zeros_before = 0.0  # the share of the new channels that comes before the input's

    def __init__(self, in_planes: int, out_planes: int, stride: int, prefix: str = ""):
        super().__init__(prefix=prefix)
        check_identity(in_planes, out_planes)
        self._stride, self._in, self._new = stride, in_planes, out_planes - in_planes

    def hybrid_forward(self, F, x):
        if self._stride > 1:
            x = F.slice(x, begin=(None,) * 4, end=(None,) * 4, step=(1, 1, self._stride, self._stride))
        if not self._new:
            return x
        before = int(self._new * self.zeros_before)
        zeros = F.zeros_like(x)
        padded = []
        for channels in (before, self._new - before):
            padded += [zeros] * (channels // self._in)
            if channels % self._in:
                padded.append(F.slice_axis(zeros, axis=1, begin=0, end=channels % self._in))
            padded.append(x)
        return F.concat(*padded[:-1], dim=1)


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


def find_shortcut(name: str) -> type[HybridBlock]:
    """The class of a shortcut by a key of architecture.SHORTCUT_NAMES. Raises UserError, which names these."""
    return SHORTCUTS[find_shortcut_name(name)]
