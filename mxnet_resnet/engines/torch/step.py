"""What a step computes, in functions that can be compiled in one piece."""

from __future__ import annotations

import torch
from torch import nn

from mxnet_resnet.engines.torch import figures, precision


def compute_scores(net: nn.Module, images: torch.Tensor, dtype: str) -> torch.Tensor:
    """The scores (N, classes) of images (N, 3, H, W), which are as exact as these, computed in ``dtype``."""
    with precision.computing(images.device, dtype):
        scores = net(images)
    return scores.to(images.dtype)


def compute_step(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, dtype: str, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a batch, and the sums of what is counted of it (figures.measure). To be compiled in one piece."""
    scores = compute_scores(net, images, dtype)
    return figures.compute_loss(scores, labels, smoothing), figures.measure(scores.detach(), labels)[0].sum(dim=0)
