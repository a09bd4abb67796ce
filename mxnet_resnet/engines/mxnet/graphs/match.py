"""Two Symbols compared by what they compute, whatever their names: what a parameter of one is called in the other."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass

import mxnet as mx

ADDITIONS = {"elemwise_add", "_Plus", "_plus", "broadcast_add", "_add"}
# What changes no number of a net in prediction but the last, softmax, which no parameter depends on.
SOFTMAXES = {"SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation"}
TRANSPARENT = {"Flatten", "flatten", "Dropout", "identity", "_copy", "BlockGrad", *SOFTMAXES}


@dataclass(frozen=True)
class _Node:
    """An operator, its settings, and what it is applied to; a variable has a name and no operator."""

    name: str
    operation: tuple
    inputs: tuple[_Node, ...]
    digest: str  # of the operation and the digests of the inputs: equal for equal computations


def match(symbol: mx.sym.Symbol, other: mx.sym.Symbol) -> dict[str, str] | None:
    """The name in ``other`` of each variable of ``symbol``, or None where they compute different things."""
    mine, theirs = _parse(symbol), _parse(other)
    if mine.digest != theirs.digest:
        return None
    names = {}
    pairs = [(mine, theirs)]
    seen = set()
    while pairs:
        pair = pairs.pop()
        if id(pair[0]) in seen:
            continue
        seen.add(id(pair[0]))
        if not pair[0].operation:
            names[pair[0].name] = pair[1].name
        pairs += zip(pair[0].inputs, pair[1].inputs)
    return names


def first_stride(symbol: mx.sym.Symbol) -> int:
    """The stride of the first convolution of a graph; 1 where there is none."""
    for node in json.loads(symbol.tojson())["nodes"]:
        if node["op"] == "Convolution":
            return _operation("Convolution", node.get("attrs", {}))[2][0]
    return 1


def first_input(symbol: mx.sym.Symbol) -> tuple[str, list[str]]:
    """The operator that is applied to the images first, and the names of its inputs."""
    nodes = json.loads(symbol.tojson())["nodes"]
    images = {number for number, node in enumerate(nodes) if node["name"] == "data"}
    for number, node in enumerate(nodes):
        sources = [source[0] for source in node["inputs"]]
        if images & set(sources):
            if node["op"] not in TRANSPARENT:
                return node["op"], [nodes[source]["name"] for source in sources]
            images.add(number)
    return "", []


def without_softmax(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The scores that go into a final softmax, or the graph itself where it ends in none."""
    graph = json.loads(symbol.tojson())
    last = graph["nodes"][graph["heads"][0][0]]
    return symbol.get_children()[0] if last["op"] in SOFTMAXES else symbol


def _parse(symbol: mx.sym.Symbol) -> _Node:
    """The output of a graph, as a node."""
    graph = json.loads(symbol.tojson())
    nodes: list[_Node] = []
    for raw in graph["nodes"]:
        inputs = [nodes[source[0]] for source in raw["inputs"]]
        if raw["op"] in TRANSPARENT:
            nodes.append(inputs[0])
            continue
        if raw["op"] in ADDITIONS:
            inputs.sort(key=lambda node: node.digest)
        operation = _operation(raw["op"], raw.get("attrs", {}))
        # A variable's place among the inputs tells what it is; `data` alone is an input by itself.
        shown = [node.digest if node.operation or node.name == "data" else "variable" for node in inputs]
        digest = hashlib.sha256(repr((operation, shown)).encode()).hexdigest()
        nodes.append(_Node(raw["name"], operation, tuple(inputs), digest))
    return nodes[graph["heads"][0][0]]


def _operation(kind: str, attributes: dict[str, str]) -> tuple:
    """The operator and those of its settings that change its result, with their defaults filled in."""

    def setting(name: str, default):
        try:
            return ast.literal_eval(attributes[name]) if name in attributes else default
        except (ValueError, SyntaxError):
            return attributes[name]

    if kind == "null":
        return ()
    if kind in ADDITIONS:
        return ("add",)
    if kind == "relu" or (kind == "Activation" and setting("act_type", "") == "relu"):
        return ("relu",)
    if kind == "Convolution":
        square = [setting(name, ()) or default for name, default in (("stride", (1, 1)), ("pad", (0, 0)))]
        return (kind, setting("kernel", ()), *square, setting("num_filter", 0), _true(setting("no_bias", False)))
    if kind == "BatchNorm":
        return (kind, float(setting("eps", 1e-3)), _true(setting("fix_gamma", True)))
    if kind == "FullyConnected":
        return (kind, setting("num_hidden", 0), _true(setting("no_bias", False)))
    if kind == "Pooling":
        kinds = (setting("pool_type", "max"), _true(setting("global_pool", False)))
        if kinds[1]:
            return (kind, *kinds)
        return (kind, *kinds, *(setting(name, ()) for name in ("kernel", "stride", "pad")))
    shown = {name: value for name, value in attributes.items() if not name.startswith("__")}
    return (kind, *sorted(shown.items()))


def _true(value) -> bool:
    return value in (True, 1)
