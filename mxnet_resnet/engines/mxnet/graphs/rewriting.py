"""Graphs written anew, node by node."""

from __future__ import annotations

import ast
import json
from collections import Counter
from typing import Any

import mxnet as mx

Node = dict  # of MXNet's JSON: op, name, attrs, inputs
Entry = list[int]  # a node's place, and which of its outputs


class Rewriting:
    """The ``nodes`` of a graph, inputs first, and those that a copy of it is to have.

    Give each node a place in the copy, in their order, with `keep`, `replace` or `skip`; `symbol` is the copy. What no
    output needs is not in it.
    """

    def __init__(self, symbol: mx.sym.Symbol):
        graph = json.loads(symbol.tojson(remove_amp_cast=False))
        self.nodes: list[Node] = graph["nodes"]
        self._heads, self._attributes = graph["heads"], graph["attrs"]
        self._kept: list[Node] = []
        self._place: dict[int, int] = {}  # of a node among those kept
        self._instead: dict[int, Entry] = {}  # of a node that is left out: what is read

    def readers(self) -> Counter[int]:
        """How often each node is read, as an output of the graph too."""
        found = Counter(source for node in self.nodes for source, *_ in node["inputs"])
        found.update(source for source, *_ in self._heads)
        return found

    def inputs(self, index: int) -> list[Entry]:
        """Where the inputs of a node are in the copy."""
        return list(map(self._entry, self.nodes[index]["inputs"]))

    def keep(self, index: int, **changes: object) -> None:
        """Copy a node; ``changes`` are its other inputs or attrs."""
        node = {**self.nodes[index], "inputs": self.inputs(index), **changes}
        self._place[index] = self._append(node)

    def replace(self, index: int, operator: str, inputs: list[Entry], attributes: dict[str, object]) -> None:
        """Put an operator of the same name in the place of a node."""
        self._place[index] = self.add(operator, self.nodes[index]["name"], inputs, attributes)[0]

    def skip(self, index: int) -> None:
        """Leave a node out: who reads it reads its first input."""
        self._instead[index] = self._entry(self.nodes[index]["inputs"][0])

    def add(self, operator: str, name: str, inputs: list[Entry], attributes: dict[str, object]) -> Entry:
        """A node that the graph has not, or a variable: ``"null"``."""
        texts = {key: str(value) for key, value in attributes.items()}
        return [self._append({"op": operator, "name": name, "attrs": texts, "inputs": inputs}), 0, 0]

    def name(self, entry: Entry) -> str:
        """That of a node in the copy."""
        return self._kept[entry[0]]["name"]

    def symbol(self) -> mx.sym.Symbol:
        """The copy."""
        variables = [place for place, node in enumerate(self._kept) if node["op"] == "null"]
        heads = list(map(self._entry, self._heads))
        graph = {"nodes": self._kept, "arg_nodes": variables, "heads": heads, "attrs": self._attributes}
        return mx.sym.load_json(json.dumps(graph))

    def _entry(self, entry: Entry) -> Entry:
        source, *others = entry
        return self._instead[source] if source in self._instead else [self._place[source], *others]

    def _append(self, node: Node) -> int:
        self._kept.append(node)
        return len(self._kept) - 1


def setting(node: Node, name: str, default: object) -> Any:
    """An attribute of a node, as a value: a text where it is no literal, which ``true`` and ``false`` are here."""
    text = node.get("attrs", {}).get(name)
    if text is None:
        return default
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text
