"""Two graphs compared by what they compute, whatever their names: what a parameter of one is called in the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mxnet_resnet.runs.graph import IMAGES, TRANSPARENT, VARIABLE, Graph, Node

ADDITIONS = {"elemwise_add", "_Plus", "_plus", "broadcast_add", "_add"}


@dataclass(frozen=True)
class _Computation:
    """An operation, and what it is applied to; a variable has a name and no operation."""

    name: str
    operation: tuple
    inputs: tuple[_Computation, ...]
    digest: str  # of the operation and the digests of the inputs: equal for equal computations


def match_names(graph: Graph, other: Graph) -> dict[str, str] | None:
    """The name in ``other`` of each variable of ``graph``, or None where they compute different things."""
    mine, theirs = _trace(graph), _trace(other)
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


def _trace(graph: Graph) -> _Computation:
    """What the first output of a graph computes."""
    found: list[_Computation] = []
    for node in graph.nodes:
        inputs = [found[source.node] for source in node.inputs]
        if node.op in TRANSPARENT:
            found.append(inputs[0])
            continue
        if node.op in ADDITIONS:
            inputs.sort(key=lambda computation: computation.digest)
        operation = _operation(node)
        # A variable's place among the inputs tells what it is; the images alone are an input by themselves.
        shown = [one.digest if one.operation or one.name == IMAGES else "variable" for one in inputs]
        digest = hashlib.sha256(repr((operation, shown)).encode()).hexdigest()
        found.append(_Computation(node.name, operation, tuple(inputs), digest))
    return found[graph.heads[0].node]


def _operation(node: Node) -> tuple:
    """The operator and those of its settings that change its result, with their defaults filled in."""
    setting, kind = node.setting, node.op
    if kind == VARIABLE:
        return ()
    if kind in ADDITIONS:
        return ("add",)
    if kind == "relu" or (kind == "Activation" and setting("act_type", "") == "relu"):
        return ("relu",)
    if kind == "Convolution":
        square = [setting(name, ()) or default for name, default in (("stride", (1, 1)), ("pad", (0, 0)))]
        dilation = setting("dilate", ()) or (1, 1)
        others = (setting("num_group", 1), setting("layout", None) or "NCHW", setting("num_filter", 0))
        return (kind, setting("kernel", ()), *square, dilation, *others, _is_true(setting("no_bias", False)))
    if kind == "BatchNorm":
        return (kind, float(setting("eps", 1e-3)), _is_true(setting("fix_gamma", True)), setting("axis", 1))
    if kind == "FullyConnected":
        flat = _is_true(setting("flatten", True))
        return (kind, setting("num_hidden", 0), _is_true(setting("no_bias", False)), flat)
    if kind == "Pooling":
        kinds = (setting("pool_type", "max"), _is_true(setting("global_pool", False)))
        if kinds[1]:
            return (kind, *kinds)
        rounding = setting("pooling_convention", "valid")
        return (kind, *kinds, rounding, *(setting(name, ()) for name in ("kernel", "stride", "pad")))
    shown = {name: value for name, value in node.attrs.items() if not name.startswith("__")}
    return (kind, *sorted(shown.items()))


def _is_true(value: object) -> bool:
    return value in (True, 1)
