"""BatchNorms folded into the convolutions before them, and dropout left out: a graph for prediction alone."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np

from mxnet_resnet.engines.mxnet.graphs.rewriting import Node, Rewriting, setting
from mxnet_resnet.engines.mxnet.ndarrays import Arrays

MXNET_EPSILON = 1e-3  # of a BatchNorm that does not tell


def fold(symbol: mx.sym.Symbol, args: Arrays, auxs: Arrays) -> tuple[mx.sym.Symbol, Arrays, Arrays]:
    """The same function as ``symbol`` in prediction, with fewer BatchNorms, and its parameters.

    A BatchNorm is folded where it reads a convolution that nothing else reads: there it is exact but for rounding. One
    before a convolution stays, as every first one of a pre-activation unit: behind it there is a ReLU, or the zeros
    that a convolution pads with, which it would have to move too.
    """
    graph = Rewriting(symbol)
    norms = _foldable(graph)
    arrays = {**args, **auxs}
    for index, node in enumerate(graph.nodes):
        idle = node["op"] == "Dropout" and setting(node, "mode", "training") == "training"
        if idle or index in norms.values():
            graph.skip(index)
        elif index in norms:
            arrays.update(_fold_into(graph, index, arrays, _affine(graph.nodes, norms[index], arrays)))
        else:
            graph.keep(index)
    folded = graph.symbol()
    return folded, _select(folded.list_arguments(), arrays), _select(folded.list_auxiliary_states(), arrays)


def count(symbol: mx.sym.Symbol, operator: str) -> int:
    """How many nodes of a graph are ``operator``."""
    return sum(node["op"] == operator for node in json.loads(symbol.tojson())["nodes"])


def ones_where_fixed(symbol: mx.sym.Symbol, args: Arrays) -> Arrays:
    """``args`` with the gammas that MXNet takes for 1 (fix_gamma), whatever the checkpoint has, at 1."""
    nodes = json.loads(symbol.tojson())["nodes"]
    norms = (node for node in nodes if node["op"] == "BatchNorm" and setting(node, "fix_gamma", True))
    fixed = {nodes[node["inputs"][1][0]]["name"] for node in norms}
    return {name: mx.nd.ones_like(array) if name in fixed else array for name, array in args.items()}


def _foldable(graph: Rewriting) -> dict[int, int]:
    """The convolutions to fold into, each with its BatchNorm, by their numbers."""
    nodes, readers = graph.nodes, graph.readers()
    pairs = {}
    for index, node in enumerate(nodes):
        source = node["inputs"][0][0] if node["op"] == "BatchNorm" else None
        if source is None or nodes[source]["op"] != "Convolution" or setting(node, "axis", 1) != 1:
            continue
        parameters = [place for place, *_ in nodes[source]["inputs"][1:]]
        if readers[source] == 1 and all(readers[place] == 1 for place in parameters):
            pairs[source] = index
    return pairs


def _affine(nodes: list[Node], norm: int, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift by channel, float64, that a BatchNorm is in prediction."""
    node = nodes[norm]
    parameters = (arrays[nodes[place]["name"]] for place, *_ in node["inputs"][1:])
    gamma, beta, mean, var = (array.asnumpy().astype(np.float64) for array in parameters)
    if setting(node, "fix_gamma", True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(var + setting(node, "eps", MXNET_EPSILON))
    return scale, beta - mean * scale


def _fold_into(graph: Rewriting, index: int, arrays: Arrays, affine: tuple[np.ndarray, np.ndarray]) -> Arrays:
    """Keep a convolution as one with a bias that does its BatchNorm's part; its new arrays by name."""
    node, (scale, shift) = graph.nodes[index], affine
    data, weight, *biases = graph.inputs(index)
    bias = biases[0] if biases else graph.add("null", f"{node['name']}_bias", [], {})
    graph.keep(index, inputs=[data, weight, bias], attrs={**node["attrs"], "no_bias": "False"})
    before = arrays[graph.name(bias)].asnumpy() if biases else np.zeros_like(shift)
    return {
        graph.name(weight): arrays[graph.name(weight)] * mx.nd.array(scale.reshape(-1, 1, 1, 1)),
        graph.name(bias): mx.nd.array(before * scale + shift),
    }


def _select(names: list[str], arrays: Arrays) -> Arrays:
    return {name: arrays[name] for name in names if name in arrays}
