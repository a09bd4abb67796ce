"""The one form of a trained net, which every engine predicts with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Arrays, Shape
from mxnet_resnet.runs.graph import SOFTMAX, Graph

# Of ImageNet's RGB in 0..255, as torchvision's and GluonCV's nets take them off.
IMAGENET_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
IMAGENET_STD = np.array([58.395, 57.12, 57.375], np.float32)
NO_MEAN, NO_STD = np.zeros(3, np.float32), np.ones(3, np.float32)

OUR_NET = "our net"  # computes the scores of a net that no other framework has

Scores = Callable[[np.ndarray], np.ndarray]  # images (N, 3, H, W) as a net takes them to scores (N, classes)


@dataclass(frozen=True)
class TrainedNet:
    """A trained net. It has a graph, or a plan, or both; then they say the same.

    Attributes:
        name: what to call it.
        params, statistics: its arrays, by the names in its graph, or by ours where it has none.
        image_shape: (C, H, W) of its input.
        classes: how many it tells apart; None for a net without a classifier, and where no engine has seen its graph.
        activation: what makes probabilities of its scores: SOFTMAX; SIGMOID where an image may be of several classes;
            None where what it gives is not known to be scores.
        output: what it gives, in words, where that is not known to be scores.
        graph: from ``data`` (N, C, H, W) to scores (N, classes), before the activation.
        plan: its architecture, where that is known; its arrays have our names then.
        mean, std: by channel, in 0..255: its input is an RGB image in 0..255, less the mean, by the deviation.
        notes: sentences on what is assumed of it.
        origin: what its files were recognised as.
        scores: the net as ``computed_by`` computes it, where its files are another framework's.
        computed_by: whoever computes the scores.
    """

    name: str
    params: Arrays = field(repr=False)
    statistics: Arrays = field(repr=False)
    image_shape: ImageShape
    classes: int | None
    graph: Graph | None = field(default=None, repr=False)
    activation: str | None = SOFTMAX
    output: str = ""
    plan: Architecture | None = None
    mean: np.ndarray = field(default_factory=NO_MEAN.copy)
    std: np.ndarray = field(default_factory=NO_STD.copy)
    notes: tuple[str, ...] = ()
    origin: str = ""
    scores: Scores | None = None
    computed_by: str = OUR_NET

    @property
    def arrays(self) -> Arrays:
        """The parameters and the statistics."""
        return {**self.params, **self.statistics}

    @property
    def shapes(self) -> dict[str, Shape]:
        """Those of the parameters and the statistics, by name."""
        return {name: array.shape for name, array in self.arrays.items()}

    @property
    def takes_bytes(self) -> bool:
        """Whether its input is RGB in 0..255, which it normalises itself."""
        return not self.mean.any() and bool((self.std == 1).all())

    def as_input(self, images: np.ndarray) -> np.ndarray:
        """RGB images (N, H, W, 3), uint8, as the input (N, 3, H, W), float32."""
        data = images.transpose(0, 3, 1, 2).astype(np.float32)
        return data if self.takes_bytes else normalise(data, self.mean, self.std)


def require_plan(net: TrainedNet) -> Architecture:
    """The plan of a net. Raises ValueError where none is known: it has to be recognised first."""
    if net.plan is None:
        raise ValueError(f"{net.name} has no plan")
    return net.plan


def require_graph(net: TrainedNet) -> Graph:
    """The graph of a net. Raises ValueError where it has a plan alone: the graph of that has to be built first."""
    if net.graph is None:
        raise ValueError(f"{net.name} has no graph")
    return net.graph


def require_classes(net: TrainedNet) -> int:
    """How many classes a net tells apart. Raises UserError for a net without a classifier."""
    if net.activation is None:
        other = "" if net.plan else "--output NAME says which operator gives scores, and "
        raise UserError(
            f"it is not known that {net.name} gives scores of classes: its output is {net.output}; "
            f"{other}export.py --to onnx writes the net with that output as it is"
        )
    if net.classes is None:
        raise UserError(f"{net.name} is a net without a classifier")
    return net.classes


def normalise(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Images (N, 3, H, W) less ``mean`` (3,), by ``std`` (3,)."""
    return (images - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)


class Predictor(Protocol):
    """A trained net on a device.

    Attributes:
        net: the net.
        batch_size: the images that it computes on at a time.
    """

    net: TrainedNet
    batch_size: int

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The scores (N, classes), before the activation, of images (N, 3, H, W) as the net takes them; all float32."""


class Gradients(Protocol):
    """The last feature map of a trained net, and what its scores are by it; heat maps are made of these."""

    net: TrainedNet

    def features(self, images: np.ndarray) -> np.ndarray:
        """The last feature map (N, C, H, W) of images (N, 3, H, W) as the net takes them."""

    def gradients(self, features: np.ndarray, label: int) -> np.ndarray:
        """Those of the score of a class by a last feature map, (N, C, H, W)."""
