"""The last feature map of a net and the gradients of its scores by it, which heat maps are made of."""

from __future__ import annotations

from dataclasses import replace

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import nets, symbols
from mxnet_resnet.engines.mxnet.binding import Executor
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs.graph import IMAGES, VARIABLE, Graph, Node

FEATURES = "features"


class FeatureGradients:
    """Computes them on one device. Raises UserError for a net without a last feature map."""

    def __init__(self, net: TrainedNet, device: mx.Context):
        self.net = net
        before, after = map(symbols.from_graph, split(nets.build_graph(net)))
        arrays = to_mxnet(net.arrays)
        self._before = Executor(before, arrays, device)
        self._after = Executor(after, arrays, device, images=FEATURES, differentiable=True)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The last feature map (N, C, H, W) of images (N, 3, H, W) as the net takes them."""
        return self._before.compute(images)

    def gradients(self, features: np.ndarray, label: int) -> np.ndarray:
        """Those of the score of a class by a last feature map, (N, C, H, W)."""
        scores = self._after.compute(features)
        heads = np.zeros_like(scores)
        heads[:, label] = 1
        return self._after.gradient(heads)


def split(graph: Graph) -> tuple[Graph, Graph]:
    """The graph up to what its global pooling takes, and the graph from there, an input ``features`` (N, C, H, W), on.

    Raises UserError where there is no global pooling, or none that all of the scores are computed behind.
    """
    poolings = [node for node in graph.nodes if _averages_images(node)]
    if not poolings and any(node.op.startswith("_sg_mkldnn") for node in graph.nodes):
        raise UserError("a net in int8 has no gradients, which heat maps come from: take the checkpoint it was made of")
    if not poolings:
        raise UserError("the net has no global pooling, before which its last feature map would be")
    for pooling in reversed(poolings):
        last = pooling.inputs[0]
        nodes = list(graph.nodes)
        nodes[last.node] = Node(VARIABLE, FEATURES)
        behind = replace(graph, nodes=tuple(nodes)).pruned()
        if IMAGES not in behind.variables:
            return graph.up_to(last), behind
    raise UserError("the net has several paths from its images to its scores, and no last feature map of them all")


def _averages_images(node: Node) -> bool:
    """Whether a node pools all of each image into one value by channel."""
    if node.op == "Pooling":
        return node.setting("global_pool", False) in (True, 1)
    return node.op in ("mean", "_npi_mean") and node.setting("axis", ()) in ((2, 3), (-2, -1), (-1, -2))
