"""The layers that all nets are made of; their BatchNorm keeps the statistics that MXNet's keeps.

All tensors are (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mxnet_resnet.base.errors import UserError


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization over channels as in MXNet: ``running_var`` is of biased variances, over N values, not N - 1.

    Without ``scale`` gamma is 1 whatever ``weight`` holds, without ``shift`` ``bias`` is not trained; both stay
    parameters, as in the published nets.

    Attributes:
        tracks: whether a batch in training changes the running statistics; not so where it is computed once more.

    Args:
        channels: C.
        momentum: the share of the running statistics that a batch leaves; PyTorch calls the rest momentum.
        epsilon: added to variances.
        scale, shift: whether gamma and beta are trained.

    Raises UserError for a batch in training that has one value a channel.
    """

    def __init__(
        self, channels: int, momentum: float = 0.9, epsilon: float = 1e-5, scale: bool = True, shift: bool = True
    ):
        super().__init__(channels, eps=epsilon, momentum=1 - momentum)
        self.tracks = True
        self.fix_gamma = not scale
        self.weight.requires_grad_(scale)
        self.bias.requires_grad_(shift)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Not None, which CUDA refuses beside a bias that has a gradient.
        weight = torch.ones_like(self.weight, requires_grad=False) if self.fix_gamma else self.weight
        if not self.training:
            return functional.batch_norm(x, self.running_mean, self.running_var, weight, self.bias, eps=self.eps)
        self._check_input_dim(x)
        if x.numel() <= self.num_features:
            raise UserError("BatchNorm cannot train on one value a channel: take more images a batch, or larger ones")
        # With momentum 1 this leaves the mean and the unbiased variance of the batch.
        mean, var = self.running_mean.new_zeros(2, self.num_features)
        normalised = functional.batch_norm(x, mean, var, weight, self.bias, training=True, momentum=1, eps=self.eps)
        if self.tracks:
            self._track(mean, var, values=x.numel() // self.num_features)
        return normalised

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor, values: int) -> None:
        """Take the mean and the unbiased variance (C,) of a batch, over ``values`` each, into the statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum  # None: of all batches
        self.running_mean.lerp_(mean, share)
        self.running_var.mul_(1 - share).add_(var, alpha=share * (values - 1) / values)


class GlobalAveragePool(nn.Module):
    """The mean over H and W: (N, C, H, W) to (N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def convolution(in_channels: int, channels: int, kernel: int, stride: int, bias: bool = False) -> nn.Conv2d:
    """A square convolution that keeps H and W at stride 1."""
    return nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=bias)
