"""BatchNorms folded into the convolutions before them, and dropout left out: a graph for prediction alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mxnet_resnet.engines.graphs.rewriting import Rewriting
from mxnet_resnet.runs.checkpoint import Arrays
from mxnet_resnet.runs.graph import VARIABLE, Graph

MXNET_EPSILON = 1e-3  # of a BatchNorm that does not tell


def fold(graph: Graph, params: Arrays, statistics: Arrays) -> tuple[Graph, Arrays, Arrays]:
    """The same function as ``graph`` in prediction, with fewer BatchNorms, and its (parameters, statistics), float32.

    A BatchNorm is folded where it reads a convolution that nothing else reads: there it is exact but for rounding. One
    before a convolution stays, as every first one of a pre-activation unit: behind it there is a ReLU, or the zeros
    that a convolution pads with, which it would have to move too.
    """
    arrays = {**params, **statistics}
    copy, norms = Rewriting(graph), _find_foldable(graph, arrays)
    for index, node in enumerate(graph.nodes):
        idle = node.op == "Dropout" and node.setting("mode", "training") == "training"
        if idle or index in norms.values():
            copy.skip(index)
        elif index in norms:
            arrays.update(_fold_into(copy, index, arrays, _compute_affine(graph, norms[index], arrays)))
        else:
            copy.keep(index)
    folded = copy.graph()
    left = [name for name in folded.variables if name in arrays]
    return (
        folded,
        {name: arrays[name] for name in left if name not in statistics},
        {name: arrays[name] for name in left if name in statistics},
    )


def as_float32(arrays: Arrays) -> Arrays:
    """Arrays of real numbers in float32; those of int8 stay as they are."""
    real = {name: array.astype(np.float32, copy=False) for name, array in arrays.items() if array.dtype.kind == "f"}
    return {**arrays, **real}


def set_fixed_to_one(graph: Graph, params: Arrays) -> Arrays:
    """``params`` with the gammas that MXNet takes for 1 (fix_gamma), whatever the checkpoint has, at 1."""
    fixed = graph.fixed
    return {name: np.ones_like(array) if name in fixed else array for name, array in params.items()}


def _find_foldable(graph: Graph, arrays: Arrays) -> dict[int, int]:
    """The convolutions to fold into, each with its BatchNorm, by their places; the parameters of both are arrays."""
    nodes, readers = graph.nodes, graph.readers()
    known = {place for place, node in enumerate(nodes) if node.op == VARIABLE and node.name in arrays}
    pairs = {}
    for index, node in enumerate(nodes):
        source = node.inputs[0].node if node.op == "BatchNorm" else None
        if source is None or nodes[source].op != "Convolution" or node.setting("axis", 1) != 1:
            continue
        if not {parameter.node for parameter in (*nodes[source].inputs[1:], *node.inputs[1:])} <= known:
            continue
        if readers[source] == 1 and all(readers[parameter.node] == 1 for parameter in nodes[source].inputs[1:]):
            pairs[source] = index
    return pairs


def _compute_affine(graph: Graph, index: int, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift by channel, float64, that a BatchNorm is in prediction."""
    norm = graph.nodes[index]
    gamma, beta, mean, var = (arrays[name].astype(np.float64) for name in graph.input_names(norm)[1:])
    if norm.setting("fix_gamma", True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(var + norm.setting("eps", MXNET_EPSILON))
    return scale, beta - mean * scale


def _fold_into(
    copy: Rewriting, index: int, arrays: Mapping[str, np.ndarray], affine: tuple[np.ndarray, np.ndarray]
) -> Arrays:
    """Keep a convolution as one with a bias that does its BatchNorm's part; its new arrays by name."""
    node, (scale, shift) = copy.nodes[index], affine
    data, weight, *biases = copy.inputs(index)
    bias = biases[0] if biases else copy.add(VARIABLE, f"{node.name}_bias", [], {})
    copy.keep(index, inputs=[data, weight, bias], attrs={**node.attrs, "no_bias": "False"})
    before = arrays[copy.name(bias)] if biases else np.zeros_like(shift)
    return {
        copy.name(weight): arrays[copy.name(weight)] * scale.reshape(-1, 1, 1, 1).astype(np.float32),
        copy.name(bias): (before * scale + shift).astype(np.float32),
    }
