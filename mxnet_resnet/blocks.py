"""Gluon layers and residual units, each written once; a Symbol is a unit traced (see symbols.py).

Blocks, layers and statistics have the names of the published MXNet ResNet-v2 checkpoints.
"""

from __future__ import annotations

from mxnet.gluon import HybridBlock, nn

BN_EPSILON = 2e-5  # of the published checkpoints; cuDNN refuses less than 1e-5


class BatchNorm(HybridBlock):
    """Batch normalization over the channels of (N, C, H, W), its statistics named ``moving_mean`` and ``moving_var``.

    ``gluon.nn.BatchNorm`` calls them ``running_mean`` and ``running_var``, which Module's checkpoints do not.
    """

    def __init__(self, channels: int, momentum: float = 0.9, scale: bool = True, prefix: str | None = None):
        super().__init__(prefix=prefix)
        self._settings = {"eps": BN_EPSILON, "momentum": momentum, "fix_gamma": not scale}

        def parameter(name: str, init: str, trained: bool):
            return self.params.get(
                name, shape=(channels,), init=init, grad_req="write" if trained else "null", differentiable=trained
            )

        self.gamma = parameter("gamma", "ones", trained=scale)
        self.beta = parameter("beta", "zeros", trained=True)
        self.moving_mean = parameter("moving_mean", "zeros", trained=False)
        self.moving_var = parameter("moving_var", "ones", trained=False)

    def hybrid_forward(self, F, x, gamma, beta, moving_mean, moving_var):
        return F.BatchNorm(x, gamma, beta, moving_mean, moving_var, name="fwd", **self._settings)


def convolution(channels: int, kernel: int, stride: int, in_channels: int, prefix: str) -> nn.Conv2D:
    """A square convolution without bias that keeps H and W at stride 1."""
    return nn.Conv2D(
        channels, kernel, stride, padding=kernel // 2, use_bias=False, in_channels=in_channels, prefix=prefix
    )


class PreActUnit(HybridBlock):
    """A pre-activation residual unit: (N, C, H, W) to (N, channels, H/stride, W/stride).

    ``x + F(x)`` where F is BN-ReLU-convolution repeated (arXiv 1603.05027, figure 1b). Where ``project`` is set, a 1x1
    convolution of the first activation takes the place of ``x``.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, project: bool, bn_momentum: float, prefix: str | None = None
    ):
        super().__init__(prefix=prefix)
        self._depth = 0
        with self.name_scope():
            width = in_channels
            for number, (planes, kernel, step) in enumerate(self.convolutions(channels, stride), start=1):
                setattr(self, f"bn{number}", BatchNorm(width, bn_momentum, prefix=f"bn{number}_"))
                setattr(self, f"relu{number}", nn.Activation("relu", prefix=f"relu{number}_"))
                setattr(self, f"conv{number}", convolution(planes, kernel, step, width, prefix=f"conv{number}_"))
                width, self._depth = planes, number
            self.sc = convolution(channels, 1, stride, in_channels, prefix="sc_") if project else None

    @staticmethod
    def convolutions(channels: int, stride: int) -> list[tuple[int, int, int]]:
        """The (channels, kernel, stride) of each convolution, first to last."""
        raise NotImplementedError

    def hybrid_forward(self, F, x):
        shortcut = x
        for number in range(1, self._depth + 1):
            x = getattr(self, f"relu{number}")(getattr(self, f"bn{number}")(x))
            if number == 1 and self.sc is not None:
                shortcut = self.sc(x)
            x = getattr(self, f"conv{number}")(x)
        return F.elemwise_add(x, shortcut, name="plus")


class PreActBasic(PreActUnit):
    """Two 3x3 convolutions; the first has the stride."""

    @staticmethod
    def convolutions(channels: int, stride: int) -> list[tuple[int, int, int]]:
        return [(channels, 3, stride), (channels, 3, 1)]


class PreActBottleneck(PreActUnit):
    """1x1, 3x3, 1x1 convolutions, the first two with a quarter of the channels; the 3x3 has the stride."""

    @staticmethod
    def convolutions(channels: int, stride: int) -> list[tuple[int, int, int]]:
        return [(channels // 4, 1, 1), (channels // 4, 3, stride), (channels, 1, 1)]
