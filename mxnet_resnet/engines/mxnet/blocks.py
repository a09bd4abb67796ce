"""Gluon layers, shortcuts and residual units, each written once; a Symbol is a unit traced (see symbols.py).

Units, layers and statistics have the names of the published MXNet ResNet-v2 checkpoints. All arrays are (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from mxnet_resnet.base.errors import UserError


class BatchNorm(HybridBlock):
    """Batch normalization over channels, its statistics named ``moving_mean`` and ``moving_var``.

    ``gluon.nn.BatchNorm`` calls them ``running_mean`` and ``running_var``, which Module's checkpoints do not.
    Without ``scale`` gamma is 1, without ``shift`` beta is 0; both stay parameters, as in the published nets.
    """

    def __init__(
        self,
        channels: int,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        scale: bool = True,
        shift: bool = True,
        prefix: str | None = None,
    ):
        super().__init__(prefix=prefix)
        self._settings = {"eps": epsilon, "momentum": momentum, "fix_gamma": not scale}

        def parameter(name: str, init: str, trained: bool):
            return self.params.get(
                name, shape=(channels,), init=init, grad_req="write" if trained else "null", differentiable=trained
            )

        self.gamma = parameter("gamma", "ones", trained=scale)
        self.beta = parameter("beta", "zeros", trained=shift)
        self.moving_mean = parameter("moving_mean", "zeros", trained=False)
        self.moving_var = parameter("moving_var", "ones", trained=False)

    def hybrid_forward(self, F, x, gamma, beta, moving_mean, moving_var):
        return F.BatchNorm(x, gamma, beta, moving_mean, moving_var, name="fwd", **self._settings)


def convolution(
    channels: int, kernel: int, stride: int, in_channels: int, prefix: str, bias: bool = False
) -> nn.Conv2D:
    """A square convolution that keeps H and W at stride 1."""
    return nn.Conv2D(
        channels, kernel, stride, padding=kernel // 2, use_bias=bias, in_channels=in_channels, prefix=prefix
    )


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
        if out_planes < in_planes:
            raise UserError(f"an identity shortcut cannot have fewer channels out ({out_planes}) than in ({in_planes})")
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


class _Unit(HybridBlock):
    """A residual unit: (N, in_planes, H, W) to (N, out_planes, H/stride, W/stride).

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
    preact: bool
    convolutions: Callable[..., list[tuple[int, int, int, bool]]]  # the (channels, kernel, stride, bias) of each

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
        **options,
    ):
        super().__init__(prefix=prefix)
        plan = self.convolutions(planes, stride, width, **options)
        self.out_planes = plan[-1][0]
        self._depth = len(plan)
        with self.name_scope():
            channels = in_planes
            for number, (out, kernel, step, bias) in enumerate(plan, start=1):
                setattr(self, f"bn{number}", norm(channels if self.preact else out, prefix=f"bn{number}_"))
                setattr(self, f"conv{number}", convolution(out, kernel, step, channels, f"conv{number}_", bias))
                setattr(self, f"relu{number}", nn.Activation("relu", prefix=f"relu{number}_"))
                channels = out
            self.dropout = nn.Dropout(drop_rate, prefix="dropout_") if drop_rate else None
            self.shortcut = shortcut(in_planes, self.out_planes, stride)
            projects = not self.preact and self.shortcut.projects
            self.sc_bn = norm(self.out_planes, prefix="sc_bn_") if projects else None

    def _layers(self, number: int) -> tuple[HybridBlock, HybridBlock, HybridBlock]:
        return tuple(getattr(self, f"{kind}{number}") for kind in ("bn", "relu", "conv"))

    def _drop(self, x, number: int):
        return self.dropout(x) if self.dropout is not None and number == self._depth else x


class _PostActUnit(_Unit):
    """``relu(shortcut(x) + F(x))``; F is convolution-BN-ReLU repeated, less the last ReLU (arXiv 1512.03385)."""

    preact = False

    def hybrid_forward(self, F, x):
        shortcut = self.shortcut(x)
        if self.sc_bn is not None:
            shortcut = self.sc_bn(shortcut)
        for number in range(1, self._depth):
            bn, relu, conv = self._layers(number)
            x = relu(bn(conv(self._drop(x, number))))
        bn, relu, conv = self._layers(self._depth)
        x = bn(conv(self._drop(x, self._depth)))
        return relu(F.elemwise_add(x, shortcut, name="plus"))

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last gamma is zero (Goyal et al., arXiv 1706.02677, section 5.1)."""
        getattr(self, f"bn{self._depth}").gamma.init = init.Zero()


class _PreActUnit(_Unit):
    """``shortcut(x) + F(x)`` where F is BN-ReLU-convolution repeated (arXiv 1603.05027, figure 1b)."""

    preact = True

    def hybrid_forward(self, F, x):
        shortcut = None if self.shortcut.requires_activation else self.shortcut(x)
        for number in range(1, self._depth + 1):
            bn, relu, conv = self._layers(number)
            x = relu(bn(x))
            if shortcut is None:
                shortcut = self.shortcut(x)
            x = conv(self._drop(x, number))
        return F.elemwise_add(x, shortcut, name="plus")

    def zero_init_residual(self) -> None:
        """Begin as the shortcut alone: the last convolution is zero (torch-resnet, after arXiv 1706.02677)."""
        getattr(self, f"conv{self._depth}").weight.init = init.Zero()


class _Basic:
    """Two 3x3 convolutions; the first has the stride."""

    @staticmethod
    def convolutions(planes: int, stride: int, width: int) -> list[tuple[int, int, int, bool]]:
        return [(planes * width, 3, stride, False), (planes * width, 3, 1, False)]


class _Bottleneck:
    """1x1, 3x3 and 1x1 convolutions, the last with four times the planes.

    The 3x3 convolution has the stride (torchvision's "v1.5"), or with ``stride_first`` the first one (Gluon's
    v1). ``bias`` is for the 1x1 convolutions.
    """

    expansion = 4

    def __init__(self, *args, drop_rate: float = 0.0, **kwargs):
        if drop_rate:
            raise UserError("bottleneck units have no dropout: the drop rate has to be 0")
        super().__init__(*args, **kwargs)

    @staticmethod
    def convolutions(
        planes: int, stride: int, width: int, stride_first: bool = False, bias: bool = False
    ) -> list[tuple[int, int, int, bool]]:
        first, middle = (stride, 1) if stride_first else (1, stride)
        return [
            (planes * width, 1, first, bias),
            (planes * width, 3, middle, False),
            (planes * _Bottleneck.expansion, 1, 1, bias),
        ]


class BasicBlock(_Basic, _PostActUnit):
    """Post-activation unit of two 3x3 convolutions (arXiv 1512.03385, figure 5 left)."""


class Bottleneck(_Bottleneck, _PostActUnit):
    """Post-activation unit of 1x1, 3x3 and 1x1 convolutions (arXiv 1512.03385, figure 5 right)."""


class PreActBlock(_Basic, _PreActUnit):
    """Pre-activation unit of two 3x3 convolutions (arXiv 1603.05027, figure 4e)."""


class PreActBottleneck(_Bottleneck, _PreActUnit):
    """Pre-activation unit of 1x1, 3x3 and 1x1 convolutions (arXiv 1603.05027, section 3)."""


def block_of(bottleneck: bool, preact: bool, stride_first: bool = False, bias: bool = False) -> Callable[..., _Unit]:
    """What makes the units of a plan."""
    if not bottleneck:
        return PreActBlock if preact else BasicBlock
    kind = PreActBottleneck if preact else Bottleneck
    return partial(kind, stride_first=stride_first, bias=bias) if stride_first or bias else kind
