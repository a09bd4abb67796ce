"""Nets as others run them: with the normalisation of their images inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mxnet_resnet.engines.graphs import folding
from mxnet_resnet.engines.graphs.rewriting import Rewriting
from mxnet_resnet.engines.mxnet import nets
from mxnet_resnet.engines.net import NO_MEAN, NO_STD, OUR_NET, TrainedNet
from mxnet_resnet.runs.graph import IMAGE_SHAPE, IMAGES, VARIABLE, Graph

NORM = "input_norm"
NORM_EPSILON = 1e-5


def deploy(net: TrainedNet) -> TrainedNet:
    """``net`` as a graph that takes RGB images in 0..255, with arrays of real numbers in float32.

    Raises UserError where its arrays do not fit its plan.
    """
    graph = nets.build_graph(net)
    params, statistics = map(folding.as_float32, (net.params, net.statistics))
    params = folding.set_fixed_to_one(graph, params)
    if not net.takes_bytes:
        graph = _put_norm_first(graph, net)
        params = {**params, f"{NORM}_gamma": np.ones(3, np.float32), f"{NORM}_beta": np.zeros(3, np.float32)}
        variance = (np.square(net.std) - NORM_EPSILON).astype(np.float32)
        statistics = {**statistics, f"{NORM}_moving_mean": net.mean, f"{NORM}_moving_var": variance}
    return replace(
        net,
        params=params,
        statistics=statistics,
        graph=graph,
        plan=None,
        mean=NO_MEAN,
        std=NO_STD,
        scores=None,
        computed_by=OUR_NET,
    )


def fold(net: TrainedNet) -> TrainedNet:
    """A deployed net with its BatchNorms folded into convolutions where that is exact."""
    graph, params, statistics = folding.fold(net.graph, net.params, net.statistics)
    return replace(net, graph=graph, params=params, statistics=statistics)


def _put_norm_first(graph: Graph, net: TrainedNet) -> Graph:
    """``graph`` behind a BatchNorm that takes the mean off its images, and divides them by the deviation."""
    copy = Rewriting(graph)
    for index, node in enumerate(graph.nodes):
        if node.op != VARIABLE or node.name != IMAGES:
            copy.keep(index)
            continue
        shape = ",".join(map(str, net.image_shape))
        images = copy.add(VARIABLE, IMAGES, [], {IMAGE_SHAPE: shape})
        kinds = ("gamma", "beta", "moving_mean", "moving_var")
        arrays = [copy.add(VARIABLE, f"{NORM}_{kind}", [], {}) for kind in kinds]
        settings = {"eps": NORM_EPSILON, "fix_gamma": True}
        copy.stand_in(index, copy.add("BatchNorm", NORM, [images, *arrays], settings))
    return copy.graph()
