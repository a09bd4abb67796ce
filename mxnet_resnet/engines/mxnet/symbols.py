"""A network as a trainable Symbol: the Gluon definition traced, with the layer names of the published graphs."""

from __future__ import annotations

from collections.abc import Iterator

import mxnet as mx
from mxnet.gluon import HybridBlock

from mxnet_resnet.runs.checkpoint import Shape
from mxnet_resnet.runs.graph import IMAGE_SHAPE, IMAGES, Graph, parse

TRACED_SUFFIX = "_fwd"  # Gluon calls the operator of layer `conv0` `conv0_fwd`; published graphs call it `conv0`


def trace(block: HybridBlock, data: mx.sym.Symbol, workspace: int = 512) -> mx.sym.Symbol:
    """Apply ``block`` to ``data`` as a graph whose layers have the published names.

    ``workspace`` is the most memory, in MB, that one convolution may use for its algorithm on a GPU. Weight decay is
    for weights and gammas only, as in a Symbol written by hand: a traced one would decay biases and betas too.
    """
    known = set(data.get_internals().list_outputs())
    symbol = block(data)
    for node in nodes(symbol):
        if node.list_outputs()[0] in known:
            continue
        if node.name.endswith(TRACED_SUFFIX):
            if "kernel" in node.list_attr() and "num_filter" in node.list_attr():
                node._set_attr(workspace=str(workspace))
            node._set_attr(name=node.name[: -len(TRACED_SUFFIX)])
        elif node.name.endswith(("_bias", "_beta")):
            node._set_attr(__wd_mult__="0.0")
    return symbol


def softmax(
    net: HybridBlock,
    workspace: int = 512,
    image_shape: tuple[int, int, int] | None = None,
    smoothing: float = 0.0,
) -> mx.sym.Symbol:
    """``net`` as a graph from ``data`` (N, C, H, W) and ``softmax_label`` (N,) to ``softmax`` (N, classes).

    Labels may be distributions (N, classes) too. ``image_shape`` (C, H, W) is noted on ``data`` for whoever loads the
    graph to predict; it restricts nothing. ``smoothing`` is the share of a label's weight that goes evenly to the other
    classes.
    """
    given = {"smooth_alpha": smoothing} if smoothing else {}  # what others load says no more than it has to
    return mx.sym.SoftmaxOutput(_scores(net, workspace, image_shape), name="softmax", **given)


def without_loss(net: HybridBlock, workspace: int = 512) -> mx.sym.Symbol:
    """``net`` as a graph from ``data`` to probabilities (N, classes), and to scores (N, classes), float32.

    The gradients of the scores are for the caller to give. (That SoftmaxOutput multiplies its own by given ones, with
    ``out_grad``, is not so in MXNet 1.9.1: it multiplies them by its output.)
    """
    scores = mx.sym.cast(_scores(net, workspace), dtype="float32")
    return mx.sym.Group([mx.sym.BlockGrad(scores.softmax(name="softmax")), scores])


def _scores(net: HybridBlock, workspace: int, image_shape: tuple[int, int, int] | None = None) -> mx.sym.Symbol:
    noted = {IMAGE_SHAPE: ",".join(map(str, image_shape))} if image_shape else None
    scores = trace(net, mx.sym.var(IMAGES, attr=noted), workspace)
    additions = (node for node in nodes(scores) if node.name.endswith("_plus"))
    for number, addition in enumerate(additions):
        addition._set_attr(name=f"_plus{number}")
    return scores


def from_graph(graph: Graph) -> mx.sym.Symbol:
    """A graph as MXNet has it. Raises MXNetError where it has an operator that MXNet has not."""
    return mx.sym.load_json(graph.to_text())


def to_graph(symbol: mx.sym.Symbol) -> Graph:
    """A Symbol as data, with its casts between types."""
    return parse(symbol.tojson(remove_amp_cast=False))


def parameter_shapes(symbol: mx.sym.Symbol, input_shape: Shape) -> dict[str, Shape]:
    """The shapes of a graph's parameters and statistics on ``data`` of ``input_shape`` (N, C, H, W), by name."""
    shapes, _, state_shapes = symbol.infer_shape(data=input_shape)
    found = dict(zip(symbol.list_arguments(), shapes))
    parameters = {name: shape for name, shape in found.items() if name != IMAGES and not name.endswith("label")}
    return {**parameters, **dict(zip(symbol.list_auxiliary_states(), state_shapes))}


def nodes(symbol: mx.sym.Symbol) -> Iterator[mx.sym.Symbol]:
    """Every node of a graph once, variables and operators, inputs first."""
    internals = symbol.get_internals()
    seen = set()
    for index in range(len(internals.list_outputs())):
        node = internals[index]
        if node.name not in seen:
            seen.add(node.name)
            yield node
