"""Graphs of nets with plans. They are written without a framework; MXNet alone knows the blocks of one's own."""

from __future__ import annotations

import numpy as np

from mxnet_resnet.engines.graphs import emission, trained
from mxnet_resnet.engines.net import TrainedNet, require_plan
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.graph import Graph


def make_graph(plan: Architecture, classes: int | None) -> Graph:
    """The graph of a plan, to scores. Raises UserError for what no net can be."""
    if emission.can_emit(plan):
        return emission.emit(plan, classes)
    from mxnet_resnet.engines.mxnet import nets

    return nets.trace(plan, classes)


def build_training_graph(net: TrainedNet) -> Graph:
    """The graph of a net with a plan, with a softmax that takes labels. Raises UserError for arrays that do not fit."""
    if emission.can_emit(require_plan(net)):
        return trained.build_training_graph(net)
    from mxnet_resnet.engines.mxnet import nets

    return nets.build_training_graph(net)


def compute_scores(net: TrainedNet, images: np.ndarray) -> np.ndarray:
    """The scores (N, classes) of images (N, 3, H, W) as the net takes them: MXNet computes its graph as it stands."""
    from mxnet_resnet.engines.mxnet import nets

    return nets.compute_scores(net, images)
