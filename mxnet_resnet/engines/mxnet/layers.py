"""The layers that all nets are made of; their statistics have the names of the published MXNet checkpoints.

All arrays are (N, C, H, W).
"""

from __future__ import annotations

from mxnet.gluon import HybridBlock, nn


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
