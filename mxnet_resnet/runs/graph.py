"""The graph of a net as MXNet's tools write it, ``PREFIX-symbol.json``: pure data, parsed here alone.

Files of MXNet before 0.9 are read as what MXNet makes of them: settings had other names (``param``, ``attr``), and the
running statistics of a BatchNorm went without saying.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

VARIABLE = "null"
SOFTMAX, SIGMOID = "softmax", "sigmoid"  # operators that make probabilities of scores
SOFTMAXES = {"SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation"}
# What changes no number of a net in prediction but the last, softmax, which no parameter depends on.
TRANSPARENT = {"Flatten", "flatten", "Dropout", "identity", "_copy", "BlockGrad", *SOFTMAXES}
NORMS = {"BatchNorm", "_contrib_BatchNormWithReLU"}
STATISTICS = ("moving_mean", "moving_var")  # the last inputs of a BatchNorm
IMAGES = "data"
IMAGE_SHAPE = "__image_shape__"  # noted on the images: C,H,W
SHAPE, INITIAL = "__shape__", "__init__"  # noted on parameters; the latter is the law that they are drawn by at first
_PYTHON2 = re.compile(r"(\d)L\b")
_WORDS = {"true": "True", "false": "False", "none": "None"}
_SETTINGS = ("param", "attr", "attrs")  # in files; those of one age have two, what is noted and what is set
_OTHERS = ("subgraphs", "control_deps")
_NODE = {"op", "name", "inputs", "backward_source_id", *_SETTINGS, *_OTHERS}  # all that MXNet reads
_GRAPH = {"nodes", "arg_nodes", "heads", "node_row_ptr", "attrs"}
_LARGEST = 2**31 - 1


class Output(NamedTuple):
    """An output of a node, which other nodes read: the node's place, and which of its outputs it is."""

    node: int
    number: int = 0
    version: int = 0  # MXNet's, of a state that operators change


@dataclass(frozen=True)
class Node:
    """An operator, or a variable, whose ``op`` is VARIABLE.

    Attributes:
        op: what it computes.
        name: its own, or of a variable that of the parameter.
        attrs: its settings, as texts.
        inputs: what it reads.
        others: what else the file says of it.
    """

    op: str
    name: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Output, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, name: str, default: object) -> Any:
        """A setting as a value: a text where it is no literal, which ``true`` and ``false`` are here."""
        text = self.attrs.get(name)
        if text is None:
            return default
        try:
            return ast.literal_eval(_WORDS.get(text.lower(), _PYTHON2.sub(r"\1", text)))
        except (ValueError, SyntaxError):
            return text


@dataclass(frozen=True)
class Graph:
    """A net as nodes, each behind those that it reads.

    Attributes:
        nodes: operators and variables.
        heads: the outputs of the whole.
        attrs: what the file says of itself, as its version.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Output, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> list[str]:
        """The names of images, labels, parameters and statistics."""
        return [node.name for node in self.nodes if node.op == VARIABLE]

    @property
    def statistics(self) -> list[str]:
        """The names of the running means and variances."""
        return [name for node in self.nodes if node.op in NORMS for name in self.input_names(node)[3:]]

    @property
    def fixed(self) -> set[str]:
        """The names of the gammas that are 1, whatever the checkpoint has (``fix_gamma``)."""
        norms = (node for node in self.nodes if node.op in NORMS and node.setting("fix_gamma", True))
        return {self.input_names(node)[1] for node in norms}

    @property
    def has_frozen_norms(self) -> bool:
        """Whether a BatchNorm takes its statistics in training as well (``use_global_stats``)."""
        return any(node.op in NORMS and node.setting("use_global_stats", False) in (True, 1) for node in self.nodes)

    @property
    def noted_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that are noted on parameters and statistics, by name; on all of them in our graphs."""
        noted = ((node.name, node.setting(SHAPE, None)) for node in self.nodes if node.op == VARIABLE)
        return {name: shape for name, shape in noted if isinstance(shape, tuple)}

    @property
    def last(self) -> Node:
        """The node that gives the first output."""
        return self.nodes[self.heads[0].node]

    def count(self, operator: str) -> int:
        """How many nodes are ``operator``."""
        return sum(node.op == operator for node in self.nodes)

    def readers(self) -> Counter[int]:
        """How often each node is read, as an output of the graph too."""
        found = Counter(source.node for node in self.nodes for source in node.inputs)
        found.update(head.node for head in self.heads)
        return found

    def noted_image_shape(self) -> tuple[int, int, int] | None:
        """The (C, H, W) that is noted on the images, or None for a graph from elsewhere."""
        noted = next((node.attrs.get(IMAGE_SHAPE, "") for node in self.nodes if node.name == IMAGES), "")
        sides = re.fullmatch(r"([0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5})", noted)
        return (int(sides[1]), int(sides[2]), int(sides[3])) if sides else None

    def first_stride(self) -> int:
        """The stride of the first convolution; 1 where there is none."""
        strides = (node.setting("stride", ()) for node in self.nodes if node.op == "Convolution")
        return (next(strides, ()) or (1,))[0]

    def first_input(self) -> Node | None:
        """The node that computes something of the images first."""
        images = {place for place, node in enumerate(self.nodes) if node.name == IMAGES}
        for place, node in enumerate(self.nodes):
            if images & {source.node for source in node.inputs}:
                if node.op not in TRANSPARENT:
                    return node
                images.add(place)
        return None

    def input_names(self, node: Node) -> list[str]:
        """The names of the nodes that a node reads."""
        return [self.nodes[source.node].name for source in node.inputs]

    def without_softmax(self) -> Graph:
        """The scores that go into a final softmax, or the graph itself where it ends in none."""
        return self.up_to(self.last.inputs[0]) if self.last.op in SOFTMAXES else self

    def with_activation(self, activation: str | None) -> Graph:
        """The probabilities of scores, the first output: their SOFTMAX, or SIGMOID; for None the graph as it is."""
        if activation is None:
            return self
        node = Node(activation, activation, inputs=self.heads[:1])
        return replace(self, nodes=(*self.nodes, node), heads=(Output(len(self.nodes)),))

    def with_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
        """The graph with the shapes of parameters noted on them, which it need not tell."""
        nodes = (
            replace(node, attrs={**node.attrs, SHAPE: str(shapes[node.name])})
            if node.op == VARIABLE and node.name in shapes
            else node
            for node in self.nodes
        )
        return replace(self, nodes=tuple(nodes))

    def up_to(self, *heads: Output) -> Graph:
        """The part that computes other outputs."""
        return Graph(self.nodes, heads, self.attrs).pruned()

    def pruned(self) -> Graph:
        """The graph without nodes that none of its outputs needs."""
        needed = {head.node for head in self.heads}
        for place in range(len(self.nodes) - 1, -1, -1):
            if place in needed:
                needed.update(source.node for source in self.nodes[place].inputs)
        places = {place: number for number, place in enumerate(sorted(needed))}

        def moved(outputs: Sequence[Output]) -> tuple[Output, ...]:
            return tuple(output._replace(node=places[output.node]) for output in outputs)

        nodes = tuple(replace(self.nodes[place], inputs=moved(self.nodes[place].inputs)) for place in places)
        return Graph(nodes, moved(self.heads), self.attrs)

    def to_text(self) -> str:
        """The JSON that MXNet loads."""
        nodes = [
            {"op": node.op, "name": node.name, "attrs": dict(node.attrs), "inputs": node.inputs, **node.others}
            for node in self.nodes
        ]
        variables = [place for place, node in enumerate(self.nodes) if node.op == VARIABLE]
        content = {"nodes": nodes, "arg_nodes": variables, "heads": self.heads, "attrs": dict(self.attrs)}
        return json.dumps(content, ensure_ascii=False)  # MXNet reads no \\u


def parse(text: str) -> Graph:
    """The graph that a text is. Raises ValueError where it is none."""
    try:
        return read_graph(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_graph(content: Any) -> Graph:
    """The graph that is written so, as JSON has it. Raises ValueError where it is none."""
    try:
        if surplus := sorted(content.keys() - _GRAPH):
            raise ValueError(f"graphs have no {surplus[0]!r}")
        nodes: list[Node] = []
        places: list[int] = []  # of the nodes of the file, among which statistics may come
        for raw in content["nodes"]:
            node = _node(raw, places)
            if node.op == "BatchNorm" and len(node.inputs) == 3:
                node = replace(node, inputs=node.inputs + tuple(Output(len(nodes) + n) for n in range(2)))
                nodes += [Node(VARIABLE, f"{node.name}_{name}") for name in STATISTICS]
            places.append(len(nodes))
            nodes.append(node)
        heads = _outputs(content["heads"], places)
        if not heads:
            raise ValueError("a graph without outputs")
        return Graph(tuple(nodes), heads, dict(content.get("attrs") or {}))
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError("it is not written as graphs are") from error


def _node(raw: dict[str, Any], places: Sequence[int]) -> Node:
    if surplus := sorted(raw.keys() - _NODE):
        raise ValueError(f"nodes of graphs have no {surplus[0]!r}")
    settings = {name: text for key in _SETTINGS for name, text in dict(raw.get(key) or {}).items()}
    others = {key: raw[key] for key in _OTHERS if raw.get(key)}
    node = Node(raw["op"], raw["name"], settings, _outputs(raw["inputs"], places), others)
    if not all(isinstance(text, str) for text in (node.op, node.name, *node.attrs, *node.attrs.values())):
        raise ValueError("names and settings are texts")
    return node


def _outputs(raw: Sequence[Sequence[int]], places: Sequence[int]) -> tuple[Output, ...]:
    """What a list in a file names: places of nodes before it, with the numbers of their outputs."""
    found = []
    for numbers in raw:
        if not 2 <= len(numbers) <= 3 or not all(type(one) is int and 0 <= one <= _LARGEST for one in numbers):
            raise ValueError("an input is no output of a node")
        found.append(Output(*numbers)._replace(node=places[numbers[0]]))
    return tuple(found)
