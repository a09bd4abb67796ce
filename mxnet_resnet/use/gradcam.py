"""Grad-CAM: where in an image a net sees a class (Selvaraju et al., arXiv 1610.02391, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mxnet_resnet.engines.net import Gradients


class GradCam:
    """Heat maps of the classes that a net sees."""

    def __init__(self, computed: Gradients):
        self._computed = computed

    def maps(self, crop: np.ndarray, classes: Sequence[int]) -> list[np.ndarray]:
        """The heat map (H, W), float32, 0..1, of each class on an image (H, W, 3), RGB, uint8, as the net takes it.

        One on which nothing speaks for the class is 0 throughout.
        """
        features = self._computed.features(self._computed.net.as_input(crop[None]))
        found: list[np.ndarray] = []
        for label in classes:
            weights = self._computed.gradients(features, label).mean(axis=(2, 3), keepdims=True)
            heat = np.maximum((weights * features).sum(axis=1)[0], 0)
            largest = heat.max()
            heat = heat / largest if largest > 0 else heat
            found.append(cv2.resize(heat, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR))
        return found
