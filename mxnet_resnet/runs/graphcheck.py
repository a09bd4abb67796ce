"""Whether a graph from a file may go to MXNet's C++, which believes what a graph says."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mxnet_resnet.runs.graph import VARIABLE, Graph, Node, Output, read_graph
from mxnet_resnet.runs.kinds import Kind, is_true, read_row
from mxnet_resnet.runs.operators import NOTES, OPERATORS, Operator

MOST_NODES = 20_000
MOST_SIDES = 3  # of a window
WINDOW = ("kernel", "stride", "dilate", "pad", "adj", "target_shape")
LONGEST_TEXT = 4096  # of a name or a setting
# What MXNet before 0.9 let operators be told of their variables, also behind a variable's name; it reads them still.
OLD_NOTES = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "profiler_scope")
NO_TEXT = {"Cc", "Cs"}  # characters that are no text: controls, and halves of surrogates


def check(graph: Graph) -> None:
    """Raise ValueError, a sentence, unless each operator is known, reads and is told what it takes."""
    if len(graph.nodes) > MOST_NODES:
        raise ValueError(f"it has {len(graph.nodes):,} operators and variables, where {MOST_NODES:,} are the most")
    _check_version(graph.attrs)
    variables = Counter(graph.variables)
    if twice := [name for name, times in variables.items() if times > 1]:
        raise ValueError(f"it has two variables {twice[0]!r}")
    for node in graph.nodes:
        _check_texts(node)
        if node.op == VARIABLE:
            _check_variable(node)
        else:
            _check_operator(graph, node)
    for head in graph.heads:
        _check_output(graph, head, "the graph")


def _check_version(attrs: Mapping[str, Any]) -> None:
    for name, value in attrs.items():
        if name != "mxnet_version" or not (isinstance(value, list) and len(value) == 2 and value[0] == "int"):
            raise ValueError(f"it says {name!r} of itself, which is not known here")
        if type(value[1]) is not int or not 0 <= value[1] < 10**6:
            raise ValueError(f"it says to be of MXNet {value[1]!r}")


def _check_texts(node: Node) -> None:
    for text in (node.op, node.name, *node.attrs, *node.attrs.values()):
        if len(text) > LONGEST_TEXT or any(unicodedata.category(character) in NO_TEXT for character in text):
            raise ValueError(f"a name or a setting is no text of at most {LONGEST_TEXT} characters: {text[:40]!r}")


def _check_variable(node: Node) -> None:
    if node.inputs or node.others:
        raise ValueError(f"the variable {node.name!r} reads something, as only operators do")
    if not node.name:
        raise ValueError("a variable has no name")
    _check_notes(node)


def _check_operator(graph: Graph, node: Node) -> None:
    known = OPERATORS.get(node.op)
    if known is None:
        raise ValueError(f"the operator {node.op!r} ({node.name!r}) is not one that is read here")
    settings = {name: text for name, text in node.attrs.items() if not _is_note(name)}
    for name, text in settings.items():
        if name not in known.settings:
            raise ValueError(f"{node.op} {node.name!r} takes no setting {name!r}")
        _check_setting(node, name, text, known.settings[name])
    for name in known.required:
        if name not in settings:
            raise ValueError(f"{node.op} {node.name!r} does not say its {name}")
    if known.window:
        _check_window(node)
    _check_notes(node)
    _check_inputs(graph, node, known)


def _is_note(name: str) -> bool:
    return (name.startswith("__") and name.endswith("__")) or name.endswith(OLD_NOTES)


def _check_notes(node: Node) -> None:
    for name, text in node.attrs.items():
        kind = NOTES.get(f"__{name}__" if name in OLD_NOTES else name)
        if kind:
            _check_setting(node, name, text, kind)


def _check_setting(node: Node, name: str, text: str, kind: Kind) -> None:
    try:
        taken = kind.takes(text)
    except ValueError:
        taken = False
    if not taken:
        raise ValueError(f"the {name} of {node.name!r} is {text[:40]!r}, where {kind.words} is expected")


def _check_window(node: Node) -> None:
    """The kernel, the strides and so on of a window have as many sides each, or none."""
    rows = {name: read_row(node.attrs[name]) for name in WINDOW if name in node.attrs}
    numbers = {len(row) for row in rows.values() if row}
    if len(numbers) > 1 or max(numbers, default=1) > MOST_SIDES:
        told = ", ".join(f"{name} {node.attrs[name]}" for name in rows)
        raise ValueError(f"the window of {node.name!r} has not the same sides everywhere: {told}")


def _check_inputs(graph: Graph, node: Node, known: Operator) -> None:
    if known.fused:
        number = _count_inputs_of_fused(node, known)
    elif node.others:
        raise ValueError(f"{node.op} {node.name!r} has a graph inside, as only fused operators have")
    else:
        number = known.count_inputs(node.attrs)
    if len(node.inputs) != number:
        raise ValueError(f"{node.op} {node.name!r} has {len(node.inputs)} inputs, where {number} are expected")
    for source in node.inputs:
        _check_output(graph, source, repr(node.name))
    for place in known.states:
        if graph.nodes[node.inputs[place].node].op != VARIABLE:
            raise ValueError(f"the running statistics of {node.name!r} are no variables")


def _check_output(graph: Graph, output: Output, reader: str) -> None:
    source = graph.nodes[output.node]
    number = 1 if source.op == VARIABLE else OPERATORS[source.op].count_outputs(source.attrs)
    if output.number >= number:
        raise ValueError(f"{reader} reads output {output.number} of {source.name!r}, which has {number}")


def _count_inputs_of_fused(node: Node, known: Operator) -> int:
    """How many inputs a fused operator reads; checks the graph inside, and that its settings say what is in there."""
    inside = node.others.get("subgraphs")
    if set(node.others) != {"subgraphs"} or not isinstance(inside, list) or len(inside) != 1:
        raise ValueError(f"{node.op} {node.name!r} has not one graph inside")
    graph = read_graph(inside[0])
    parts = _find_parts(graph, known)
    if parts is None:
        raise ValueError(f"{node.op} {node.name!r} is not made of {', '.join(known.fused)}, one behind the other")
    check(graph)
    for part in known.fused:
        if part.startswith("with_") and is_true(node.attrs, part) != (part in parts):
            raise ValueError(f"{node.op} {node.name!r} says of {part} what is not so")
    ranges = 2 + 2 * ("with_sum" in parts) if is_true(node.attrs, "quantized") else 0
    return len(graph.variables) + ranges


def _find_parts(graph: Graph, known: Operator) -> set[str] | None:
    """The parts of a fused operator that a graph is made of; None where it is another graph."""
    operators = [place for place, node in enumerate(graph.nodes) if node.op != VARIABLE]
    rest, parts = list(operators), set()
    for part, kinds in known.fused.items():
        if rest and graph.nodes[rest[0]].op in kinds:
            rest.pop(0)
            parts.add(part)
    readers = graph.readers()
    row = all(
        [source.node for source in graph.nodes[behind].inputs].count(before) == 1
        for before, behind in zip(operators, operators[1:])
    )
    whole = bool(operators) and [head.node for head in graph.heads] == operators[-1:]
    alone = all(readers[place] == 1 for place in range(len(graph.nodes)))
    return parts if row and whole and alone and not rest and next(iter(known.fused)) in parts else None
