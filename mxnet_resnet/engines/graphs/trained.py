"""The graph of a trained net with a plan, and what it is made of."""

from __future__ import annotations

from math import prod

from mxnet_resnet.engines.graphs import emission
from mxnet_resnet.engines.net import TrainedNet, require_plan
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.graph import Graph


def build_training_graph(net: TrainedNet) -> Graph:
    """The graph of a net with a plan, with a softmax that takes labels: that of a checkpoint of the net.

    A net without a classifier gives its features, and no softmax of them. Raises UserError where its arrays do not fit
    its plan, and as emission.emit.
    """
    emit = emission.emit if net.classes is None else emission.emit_training
    graph = emit(require_plan(net), net.classes, image_shape=net.image_shape)
    checkpoint.check_fit(graph.noted_shapes, net.params, net.statistics)
    return graph


def count_layers(graph: Graph) -> int:
    """The convolutions, projections included, which the names of nets do not count, and dense layers."""
    return graph.count("Convolution") + graph.count("FullyConnected")


def count_projections(graph: Graph) -> int:
    """The convolutions on shortcuts of a graph that emission wrote."""
    return sum(node.op == "Convolution" and node.name.endswith("_sc") for node in graph.nodes)


def count_parameters(graph: Graph, plan: Architecture) -> int:
    """The number of trained values in the graph of a plan; running statistics and what is fixed do not count."""
    untrained = {*graph.statistics, *graph.fixed}
    if plan.data_norm == "plain":
        untrained.add("bn_data_beta")
    return sum(prod(shape) for name, shape in graph.noted_shapes.items() if name not in untrained)
