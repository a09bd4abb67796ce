"""The last feature map of a net and the gradients of its scores by it, which heat maps are made of."""

from __future__ import annotations

import numpy as np
import torch

from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.engines.torch.predictor import build


class FeatureGradients:
    """Computes them on one device (engines.net.Gradients). Raises UserError where its arrays do not fit its plan."""

    def __init__(self, net: TrainedNet, device: torch.device):
        self.net, self._device = net, device
        self._module = build(net, device).requires_grad_(False)

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        """The last feature map (N, C, H, W) of images (N, 3, H, W) as the net takes them."""
        return self._module.features(torch.from_numpy(images).to(self._device)).cpu().numpy()

    def gradients(self, features: np.ndarray, label: int) -> np.ndarray:
        """Those of the score of a class by a last feature map, (N, C, H, W)."""
        given = torch.from_numpy(features).to(self._device).requires_grad_()
        self._module.classify(given)[:, label].sum().backward()
        return given.grad.cpu().numpy()
