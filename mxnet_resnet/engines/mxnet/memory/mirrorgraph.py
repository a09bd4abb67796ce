"""A Symbol as a mirror plan sees it: what each operator takes in memory and time, and the marks on it.

Marks are MXNet's attribute ``__force_mirroring__``. What 1.9.1 does with them (its source, src/nnvm/gradient.cc, and
the profiler agree) decides what can be planned. Every marked operator gets a twin that runs in the backward pass,
needed or not. The twin reads the twins of marked operators and the kept outputs of the others. The gradient of a marked
operator reads what its twin reads; that of another one what the operator itself read, which is kept for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import mxnet as mx

from mxnet_resnet.engines.mxnet.symbols import from_graph, to_graph
from mxnet_resnet.runs.graph import VARIABLE, Graph, Node, Output

MARK = "__force_mirroring__"

# Time of an element of the output, forward and backward, in multiply-accumulates of a convolution, whose backward pass
# takes that of 2.1 forward passes. Fitted to MXNet's profiler: ResNet-50, 8 at 224x224, and ResNet-164, 32 at 32x32.
ELEMENT_TIME = {"BatchNorm": (42, 56), "Activation": (19, 77), "elemwise_add": (63, 62)}
OTHER_ELEMENT_TIME = (40, 60)
CONVOLUTION_BACKWARD = 2.1

# What the gradient of an operator reads. Of operators that are not here, it reads inputs and outputs.
PRODUCTS = {"Convolution", "FullyConnected"}  # read their inputs
READ_OUTPUTS = {"SoftmaxOutput", "Dropout", "relu"}
READ_NEITHER = {"elemwise_add", "_copy", "Flatten", "Reshape", "Concat", "slice", "Pad", "amp_cast", "amp_multicast"}
NEVER_MIRRORED = {"Dropout"}  # MXNet leaves these out, for a second draw would be another mask

DEFAULT_MOMENTUM = 0.9  # of BatchNorm


@dataclass(frozen=True)
class Operator:
    """A node that depends on the images.

    Attributes:
        position: among the nodes of the graph.
        inputs: numbers of the operators that it reads.
        size: elements of its first output.
        forward, backward: time, in multiply-accumulates.
        reads_inputs, reads_outputs: whether its gradient does.
    """

    name: str
    kind: str
    position: int
    inputs: tuple[int, ...]
    size: int
    forward: float
    backward: float
    reads_inputs: bool
    reads_outputs: bool

    @property
    def mirrored(self) -> bool:
        """Whether MXNet heeds a mark on it."""
        return self.kind not in NEVER_MIRRORED


class OperatorGraph:
    """The operators of a symbol that depend on its images and labels, inputs first.

    ``shapes`` maps the names of images and labels to their shapes, those of one device, N first.
    """

    def __init__(self, symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]]):
        graph, sizes = to_graph(symbol), _shapes(symbol, shapes)
        nodes = graph.nodes
        numbers: dict[int, int] = {}
        self.operators: list[Operator] = []
        for position, node in enumerate(nodes):
            sources = [source.node for source in node.inputs]
            inputs = tuple(numbers[source] for source in sources if source in numbers)
            if node.op != VARIABLE and (inputs or any(nodes[source].name in shapes for source in sources)):
                numbers[position] = len(self.operators)
                parameters = [sizes[nodes[source].name] for source in sources if source not in numbers]
                self.operators.append(_operator(node, position, inputs, sizes[node.name], parameters))
        self.heads = {numbers[head.node] for head in graph.heads if head.node in numbers}

    @cached_property
    def cuts(self) -> list[int]:
        """The operators that all paths from the images to the loss pass through, the last one too."""
        last_reader = list(range(len(self.operators)))
        for number, operator in enumerate(self.operators):
            for source in operator.inputs:
                last_reader[source] = number
        for head in self.heads:
            last_reader[head] = len(self.operators) - 1
        furthest, found = -1, []
        for number, last in enumerate(last_reader):
            if furthest <= number:
                found.append(number)
            furthest = max(furthest, last)
        return found

    @cached_property
    def read_backward(self) -> list[bool]:
        """Of each operator: whether a gradient reads its output."""
        found = [operator.reads_outputs for operator in self.operators]
        for operator in self.operators:
            for source in operator.inputs if operator.reads_inputs else ():
                found[source] = True
        return found

    @cached_property
    def step_time(self) -> float:
        """Of a forward and a backward pass in which nothing is computed twice."""
        return sum(operator.forward + operator.backward for operator in self.operators)


def _shapes(symbol: mx.sym.Symbol, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of variables, and of the operators' first outputs, by the names of the nodes."""
    internals = symbol.get_internals()
    result: dict[str, tuple[int, ...]] = {}
    for index, shape in enumerate(internals.infer_shape(**shapes)[1]):
        result.setdefault(internals[index].name, shape)
    return result


def _operator(
    node: Node, position: int, inputs: tuple[int, ...], shape: tuple[int, ...], parameters: list[tuple[int, ...]]
) -> Operator:
    kind, size = node.op, math.prod(shape)
    if kind == "Activation":
        kind = "relu" if node.attrs["act_type"] == "relu" else kind
    if kind in PRODUCTS:
        # A weight is (outputs, inputs / groups, height, width): an element of the output takes a row of it.
        forward = float(size * max((math.prod(weight[1:]) for weight in parameters if len(weight) > 1), default=1))
        backward = CONVOLUTION_BACKWARD * forward
    else:
        forward, backward = (float(size * time) for time in ELEMENT_TIME.get(node.op, OTHER_ELEMENT_TIME))
    neither = kind in READ_NEITHER
    # BatchNorm's gradient reads two of its outputs, the mean and the deviation, but they are small.
    reads_outputs = not (neither or kind in PRODUCTS or kind == "BatchNorm")
    reads_inputs = not (neither or kind in READ_OUTPUTS)
    return Operator(node.name, kind, position, inputs, size, forward, backward, reads_inputs, reads_outputs)


@dataclass(frozen=True)
class Marks:
    """Positions in the graph: of the operators to mark, and of those whose output a copy behind them keeps."""

    mirrored: frozenset[int]
    copied: frozenset[int]


def marked(symbol: mx.sym.Symbol, marks: Marks, cudnn: bool = False) -> mx.sym.Symbol:
    """A symbol with marks and copies; arguments, states and outputs stay the same.

    With ``cudnn``, marked BatchNorms have the momentum of which two steps make one.
    """
    graph = to_graph(symbol)
    nodes: list[Node] = []
    moved: list[int] = []  # places of nodes
    readable: list[int] = []  # and of what others read of them

    def outputs(before: Sequence[Output]) -> tuple[Output, ...]:
        return tuple(output._replace(node=(moved if output.number else readable)[output.node]) for output in before)

    for position, node in enumerate(graph.nodes):
        attrs = {**node.attrs, MARK: "True"} if position in marks.mirrored else node.attrs
        if position in marks.mirrored and cudnn and node.op == "BatchNorm":
            attrs["momentum"] = repr(math.sqrt(float(attrs.get("momentum", DEFAULT_MOMENTUM))))
        moved.append(len(nodes))
        nodes.append(replace(node, attrs=attrs, inputs=outputs(node.inputs)))
        if position in marks.copied:
            nodes.append(Node("_copy", f"{node.name}_kept", inputs=(Output(moved[position]),)))
        readable.append(len(nodes) - 1)
    return from_graph(Graph(tuple(nodes), outputs(graph.heads), graph.attrs))
