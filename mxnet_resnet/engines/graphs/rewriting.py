"""Graphs written anew, node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mxnet_resnet.runs.graph import Graph, Node, Output


class Rewriting:
    """The ``nodes`` of a graph, inputs first, and those that a copy of it is to have.

    Give each node a place in the copy, in their order, with `keep`, `replace` or `skip`; `graph` is the copy. What no
    output needs is not in it.
    """

    def __init__(self, source: Graph):
        self.source, self.nodes = source, source.nodes
        self._kept: list[Node] = []
        self._place: dict[int, int] = {}  # of a node among those kept
        self._instead: dict[int, Output] = {}  # of a node that is left out: what is read

    def inputs(self, index: int) -> list[Output]:
        """Where the inputs of a node are in the copy."""
        return list(map(self._output, self.nodes[index].inputs))

    def keep(self, index: int, inputs: Sequence[Output] | None = None, attrs: Mapping[str, str] | None = None) -> None:
        """Copy a node, with other inputs or attrs where they are given."""
        node = self.nodes[index]
        inputs = self.inputs(index) if inputs is None else inputs
        self._place[index] = self._append(replace(node, inputs=tuple(inputs), attrs=attrs or node.attrs))

    def replace(self, index: int, operator: str, inputs: Sequence[Output], attributes: Mapping[str, object]) -> None:
        """Put an operator of the same name in the place of a node."""
        self._place[index] = self.add(operator, self.nodes[index].name, inputs, attributes).node

    def skip(self, index: int) -> None:
        """Leave a node out: who reads it reads its first input."""
        self.stand_in(index, self._output(self.nodes[index].inputs[0]))

    def stand_in(self, index: int, output: Output) -> None:
        """Put an output of the copy in the place of a node's."""
        self._instead[index] = output

    def add(self, operator: str, name: str, inputs: Sequence[Output], attributes: Mapping[str, object]) -> Output:
        """A node that the graph has not, or a variable."""
        texts = {key: str(value) for key, value in attributes.items()}
        return Output(self._append(Node(operator, name, texts, tuple(inputs))))

    def name(self, output: Output) -> str:
        """That of a node in the copy."""
        return self._kept[output.node].name

    def graph(self) -> Graph:
        """The copy."""
        heads = tuple(map(self._output, self.source.heads))
        return Graph(tuple(self._kept), heads, self.source.attrs).pruned()

    def _output(self, output: Output) -> Output:
        return self._instead.get(output.node) or output._replace(node=self._place[output.node])

    def _append(self, node: Node) -> int:
        self._kept.append(node)
        return len(self._kept) - 1
