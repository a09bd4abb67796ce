"""BatchNorms folded into the convolutions before them, and dropout left out: a graph for prediction alone."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping

import mxnet as mx
import numpy as np

from mxnet_resnet.checkpoint import Arrays

MXNET_EPSILON = 1e-3  # of a BatchNorm that does not tell
Node = dict  # of MXNet's JSON: op, name, attrs, inputs


def fold(symbol: mx.sym.Symbol, args: Arrays, auxs: Arrays) -> tuple[mx.sym.Symbol, Arrays, Arrays]:
    """The same function as ``symbol`` in prediction, with fewer BatchNorms, and its parameters.

    A BatchNorm is folded where it reads a convolution that nothing else reads: there it is exact but for rounding. One
    before a convolution stays, as every first one of a pre-activation unit: behind it there is a ReLU, or the zeros
    that a convolution pads with, which it would have to move too.
    """
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    norms = _foldable(nodes, graph["heads"])
    arrays = {name: array.asnumpy() for name, array in {**args, **auxs}.items()}
    kept: list[Node] = []
    place: dict[int, int] = {}  # of a node of the graph among those kept
    for index, node in enumerate(nodes):
        if node["op"] == "Dropout" or index in norms.values():
            place[index] = place[node["inputs"][0][0]]
            continue
        inputs = [[place[source], *others] for source, *others in node["inputs"]]
        node = {**node, "inputs": inputs}
        if index in norms:
            node, arrays = _with_bias(node, kept, arrays, _affine(nodes, norms[index], arrays))
        place[index] = len(kept)
        kept.append(node)
    folded = _symbol(kept, [[place[source], *others] for source, *others in graph["heads"]])
    return folded, _select(folded.list_arguments(), arrays), _select(folded.list_auxiliary_states(), arrays)


def count(symbol: mx.sym.Symbol, operator: str) -> int:
    """How many nodes of a graph are ``operator``."""
    return sum(node["op"] == operator for node in json.loads(symbol.tojson())["nodes"])


def ones_where_fixed(symbol: mx.sym.Symbol, args: Arrays) -> Arrays:
    """``args`` with the gammas that MXNet takes for 1 (fix_gamma), whatever the checkpoint has, at 1."""
    nodes = json.loads(symbol.tojson())["nodes"]
    norms = (node for node in nodes if node["op"] == "BatchNorm" and _setting(node, "fix_gamma", True))
    fixed = {nodes[node["inputs"][1][0]]["name"] for node in norms}
    return {name: mx.nd.ones_like(array) if name in fixed else array for name, array in args.items()}


def _foldable(nodes: list[Node], heads: list[list[int]]) -> dict[int, int]:
    """The convolutions to fold into, each with its BatchNorm, by their numbers."""
    readers = Counter(source for node in nodes for source, *_ in node["inputs"])
    readers.update(source for source, *_ in heads)
    pairs = {}
    for index, node in enumerate(nodes):
        source = node["inputs"][0][0] if node["op"] == "BatchNorm" else None
        if source is None or nodes[source]["op"] != "Convolution" or _setting(node, "axis", 1) != 1:
            continue
        parameters = [place for place, *_ in nodes[source]["inputs"][1:]]
        if readers[source] == 1 and all(readers[place] == 1 for place in parameters):
            pairs[source] = index
    return pairs


def _affine(nodes: list[Node], norm: int, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift by channel, float64, that a BatchNorm is in prediction."""
    node = nodes[norm]
    gamma, beta, mean, var = (arrays[nodes[place]["name"]].astype(np.float64) for place, *_ in node["inputs"][1:])
    if _setting(node, "fix_gamma", True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(var + _setting(node, "eps", MXNET_EPSILON))
    return scale, beta - mean * scale


def _with_bias(
    node: Node, kept: list[Node], arrays: dict[str, np.ndarray], affine: tuple[np.ndarray, np.ndarray]
) -> tuple[Node, dict[str, np.ndarray]]:
    """A convolution that does its BatchNorm's part, and the arrays with its own; ``kept`` gets its bias."""
    scale, shift = affine
    inputs = list(node["inputs"])
    weight = kept[inputs[1][0]]["name"]
    if len(inputs) == 2:
        bias, before = f"{node['name']}_bias", np.zeros_like(shift)
        inputs.append([len(kept), 0, 0])
        kept.append({"op": "null", "name": bias, "inputs": []})
    else:
        bias = kept[inputs[2][0]]["name"]
        before = arrays[bias]
    folded = {
        weight: (arrays[weight] * scale.reshape(-1, 1, 1, 1)).astype(np.float32),
        bias: (before * scale + shift).astype(np.float32),
    }
    return {**node, "inputs": inputs, "attrs": {**node["attrs"], "no_bias": "False"}}, {**arrays, **folded}


def _setting(node: Node, name: str, default):
    return ast.literal_eval(node.get("attrs", {}).get(name, repr(default)))


def _symbol(nodes: list[Node], heads: list[list[int]]) -> mx.sym.Symbol:
    """The graph of these nodes; what no head needs is not in it."""
    variables = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    version = ["int", 10901]
    graph = {"nodes": nodes, "arg_nodes": variables, "heads": heads, "attrs": {"mxnet_version": version}}
    return mx.sym.load_json(json.dumps(graph))


def _select(names: list[str], arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {name: mx.nd.array(arrays[name]) for name in names if name in arrays}
