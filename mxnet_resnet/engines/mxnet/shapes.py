"""The shapes in a graph, seen to fit before anything is computed: MXNet's C++ may end the process where they do not."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import mxnet as mx

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.symbols import from_graph, to_graph
from mxnet_resnet.runs.checkpoint import Shape
from mxnet_resnet.runs.graph import NORMS, SHAPE, VARIABLE, Graph, Node, Output, read_graph
from mxnet_resnet.runs.kinds import AXES, AXIS, read_row
from mxnet_resnet.runs.operators import OPERATORS

BYTES = 4  # of a value in float32
# What gives as many values as it reads; MXNet does not look whether a reshape does, and writes behind the array.
AS_MANY = {"Reshape", "reshape", "_np_reshape", "_npx_reshape", "Flatten", "flatten", "expand_dims", "squeeze"}
AS_MANY |= {"_np_squeeze", "transpose", "_np_transpose", "SwapAxis", "swapaxes"}


NEW_AXES = {"expand_dims", "stack"}
NORMALISING = {*NORMS, "_contrib_quantized_batch_norm"}
SLOPED = "LeakyReLU"


class Shapes(NamedTuple):
    """Those of a graph.

    Attributes:
        variables: by name.
        outputs: of the graph.
        nodes: of the first output of each node, in their order.
    """

    variables: dict[str, Shape]
    outputs: list[Shape]
    nodes: list[Shape]


def without_notes(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """A graph without the shapes that are noted on its variables, which MXNet believes against what operators read.

    A slope (1,) is one of all channels.
    """
    graph = to_graph(symbol)
    slopes = {node.inputs[1].node for node in graph.nodes if node.op == SLOPED and len(node.inputs) == 2}
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        if SHAPE in node.attrs and not (place in slopes and node.setting(SHAPE, None) == (1,)):
            attrs = {name: text for name, text in node.attrs.items() if name != SHAPE}
            nodes[place] = replace(node, attrs=attrs)
    return from_graph(replace(graph, nodes=tuple(nodes)))


def infer(symbol: mx.sym.Symbol, given: Mapping[str, Shape], arrays: Mapping[str, Shape]) -> Shapes:
    """The shapes in a graph without notes, where those ``given`` are known.

    Those of ``arrays`` are taken where they do not follow. Raises UserError where shapes do not fit, are not known
    then, are of no values, or of more than the memory of this machine holds.
    """
    graph, found = to_graph(symbol), None
    try:
        found = _infer(graph, given)
        unknown = {name for name, shape in found.variables.items() if not _has_values(shape)}
    except UserError:  # of operators that cannot do with a part, or of shapes that contradict each other
        unknown = {node.name for node in graph.nodes if node.op == VARIABLE} - given.keys()
    unknown = (unknown & arrays.keys()) - {*graph.statistics}
    if unknown or found is None:
        found = _infer(graph, {**given, **{name: arrays[name] for name in unknown}})
    for node, shape in zip(graph.nodes, found.nodes):
        if not _has_values(shape):
            what = f"has the shape {shape}, which no values have" if shape else "has no shape that is known"
            raise UserError(f"MXNet cannot compute the graph: {node.name} {what}")
        if node.inputs and not node.inputs[0].number:
            _check_node(node, [found.nodes[source.node] for source in node.inputs], shape)
    _check_memory(graph, found.nodes)
    return found


def check_fit(expected: Mapping[str, Shape], arrays: Mapping[str, mx.nd.NDArray], images: str) -> None:
    """Raise UserError unless ``arrays`` have the shapes ``expected``; ``images`` and labels need not be there."""
    for name, shape in expected.items():
        if name == images or (name not in arrays and name.endswith("label")):
            continue
        if name not in arrays:
            raise UserError(f"the checkpoint does not fit the net: it has no {name}, expected with shape {shape}")
        if arrays[name].shape != shape:
            raise UserError(
                f"the checkpoint does not fit the net: {name} has shape {arrays[name].shape}, expected {shape}"
            )


def explain(error: RuntimeError) -> str:
    """What an error of MXNet says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if "MXNetError:" in line]
    return lines[-1].partition("MXNetError:")[2].strip() if lines else "it does not say why"


def _infer(graph: Graph, given: Mapping[str, Shape]) -> Shapes:
    places = [Output(place) for place in range(len(graph.nodes))]
    try:
        every = from_graph(replace(graph, heads=(*places, *graph.heads)))
        with _quietly():
            _, shapes, _ = every.infer_shape_partial(**given)
    except RuntimeError as error:
        raise UserError(f"MXNet cannot compute the graph: {explain(error)}") from error
    nodes, outputs = shapes[: len(places)], shapes[len(places) :]
    variables = {node.name: shape for node, shape in zip(graph.nodes, nodes) if node.op == VARIABLE}
    return Shapes(variables, outputs, nodes)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """MXNet prints all shapes where it raises, and warns of those that it does not know."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_node(node: Node, inputs: Sequence[Shape], given: Shape) -> None:
    """What MXNet does not look at: as many values in a reshape, axes that are there, a value a channel in a norm."""
    read = inputs[0]
    if node.op in AS_MANY and prod(read) != prod(given):
        raise UserError(f"MXNet cannot compute the graph: {node.name} makes {given} of {read}")
    rank = max(len(read), len(given)) if node.op in NEW_AXES else len(read)
    for name, kind in OPERATORS[node.op].settings.items() if node.op in OPERATORS else ():
        if kind in (AXIS, AXES) and node.attrs.get(name, "None") != "None":
            for axis in read_row(node.attrs[name]):
                if not -rank <= (axis or 0) < rank:
                    raise UserError(f"MXNet cannot compute the graph: {node.name} has {name} {axis} on {read}")
    places, channels = _find_channels(node, read)
    for place in places:
        if inputs[place] != (channels,) and not (node.op == SLOPED and inputs[place] == (1,)):
            raise UserError(
                f"MXNet cannot compute the graph: {node.name} of {channels} channels reads values of {inputs[place]}"
            )


def _find_channels(node: Node, read: Shape) -> tuple[Sequence[int], int]:
    """The places of the inputs of a node that have a value a channel, and how many channels there are."""
    if node.op in NORMALISING:
        return range(1, 5), read[node.setting("axis", 1)] if len(read) > 1 else 0
    if node.op in ("InstanceNorm", SLOPED):
        return range(1, len(node.inputs)), read[1] if len(read) > 1 else read[0]
    if node.op == "_sg_mkldnn_conv":
        inside = read_graph(node.others["subgraphs"][0])
        norm = next((one for one in inside.nodes if one.op in NORMS), None)
        if norm is not None:
            names = inside.input_names(norm)[1:]
            filters = next(one.setting("num_filter", 0) for one in inside.nodes if one.op == "Convolution")
            return [inside.variables.index(name) for name in names], filters
    return (), 0


def _has_values(shape: Shape) -> bool:
    return bool(shape) and min(shape) > 0


def _check_memory(graph: Graph, shapes: Sequence[Shape]) -> None:
    """Refuse a graph whose arrays that are needed at one time are more than the machine holds."""
    last = {source.node: place for place, node in enumerate(graph.nodes) for source in node.inputs}
    sizes = [BYTES * prod(shape) for shape in shapes]
    held = most = 0
    for place, node in enumerate(graph.nodes):
        held += sizes[place]
        most = max(most, held)
        held -= sum(sizes[read] for read in {source.node for source in node.inputs} if last[read] == place)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if most > memory:
        needed, there = (f"{number / 2**30:,.1f} GiB" for number in (most, memory))
        raise UserError(f"the graph needs {needed} of memory for these images, and this machine has {there}")
