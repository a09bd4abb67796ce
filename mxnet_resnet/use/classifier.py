"""A net that classifies images: from what it sees of them to probabilities."""

from __future__ import annotations

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.net import Predictor
from mxnet_resnet.runs.graph import SIGMOID, SOFTMAX


class Classifier:
    """The probabilities of images, by a net that an engine computes."""

    def __init__(self, predictor: Predictor):
        self.net, self.batch_size, self._predictor = predictor.net, predictor.batch_size, predictor

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """The class probabilities (N, classes) of images as crops (N, K, H, W, 3), RGB, uint8: means over their K.

        Raises UserError where a score is no finite number.
        """
        number, crops_an_image = crops.shape[:2]
        rows = crops.reshape(-1, *crops.shape[2:])
        scores = self._predictor.scores(self.net.as_input(rows))
        if not np.isfinite(scores).all():
            raise UserError(
                f"the scores of {self.net.name} are not finite numbers: its weights are damaged or diverged, or too "
                "large for the dtype"
            )
        found = PROBABILITIES[self.net.activation or SOFTMAX](scores)
        return found.reshape(number, crops_an_image, found.shape[1]).mean(axis=1)

    def images_at_a_time(self, crop: str) -> int:
        """How many images have as many crops as are computed at a time, or 1; ``crop`` is one of transform.CROPS."""
        return max(1, self.batch_size // (10 if crop == "ten" else 1))


def softmax(scores: np.ndarray) -> np.ndarray:
    """The probabilities (N, classes) of scores (N, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """The probabilities (N, classes), each by itself, of scores (N, classes)."""
    powers = np.exp(-np.abs(scores))
    return np.where(scores < 0, powers, 1) / (1 + powers)


PROBABILITIES = {SOFTMAX: softmax, SIGMOID: sigmoid}
