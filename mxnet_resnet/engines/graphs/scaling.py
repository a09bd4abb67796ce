"""The arithmetic on images with which a graph begins, as a factor and a shift by channel, and graphs without it.

Followed is what computes these; what comes behind anything else is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Union

import numpy as np

from mxnet_resnet.engines.graphs.arithmetic import WITH_ARRAY, WITH_SCALAR, calculate
from mxnet_resnet.engines.graphs.folding import MXNET_EPSILON
from mxnet_resnet.runs.graph import IMAGES, NORMS, VARIABLE, Graph, Node

UNCHANGED = {"identity", "_copy", "BlockGrad", "_np_copy"}
NEARLY_UNCHANGED, CASTS = {"clip", "Dropout"}, {"Cast", "cast", "amp_cast"}
RESHAPING = {"Reshape", "reshape", "expand_dims", "squeeze", "broadcast_to", "_np_reshape", "_npx_reshape"}
FILLED = {"_zeros": 0.0, "zeros": 0.0, "_ones": 1.0, "ones": 1.0}


class Scaled(NamedTuple):
    """Channels of the images, times ``factor`` plus ``shift``, float64 (C,).

    ``channels`` (C) says which of the images' each is; ``exact`` that it is just that, up to rounding: a mean image is
    taken by its means, and what a clip or a cast makes of values is not known.
    """

    factor: np.ndarray
    shift: np.ndarray
    channels: tuple[int, ...] = (0, 1, 2)
    exact: bool = True

    def undo(self, values: np.ndarray) -> np.ndarray:
        """What is scaled to these values."""
        return (values - self.shift) / self.factor

    def take(self, part: slice) -> Scaled:
        """A part of the channels."""
        return self._replace(factor=self.factor[part], shift=self.shift[part], channels=self.channels[part])


Value = Union[Scaled, np.ndarray, None]  # of the images; of parameters alone; None is not known


class Step(NamedTuple):
    """A node, what it reads, and what it gives, as far as that is known."""

    place: int
    node: Node
    inputs: list[Value]
    outputs: list[Value]

    @property
    def ends(self) -> list[Scaled]:
        """The scaled images that are followed no further than to this node."""
        followed = any(isinstance(value, Scaled) for value in self.outputs)
        return [] if followed else [value for value in self.inputs if isinstance(value, Scaled)]


def follow(graph: Graph, arrays: Mapping[str, np.ndarray], norms: bool = False) -> Iterator[Step]:
    """The operators of a graph, in their order; ``norms`` follows images through BatchNorms, as these predict."""
    values: dict[tuple[int, int], Value] = {}
    for place, node in enumerate(graph.nodes):
        if node.op == VARIABLE:
            values[place, 0] = _read_variable(node.name, arrays)
            continue
        inputs = [values.get((source.node, source.number)) for source in node.inputs]
        outputs = _apply_norm(node, inputs) if norms and node.op in NORMS else _apply(node, inputs)
        values.update({(place, number): value for number, value in enumerate(outputs)})
        yield Step(place, node, inputs, outputs)


def strip(graph: Graph, arrays: Mapping[str, np.ndarray], norms: bool = False) -> tuple[Graph, Scaled] | None:
    """A graph without the arithmetic on its images, and that; None where there is none that is known.

    With ``norms`` a BatchNorm on the images is a part of it.
    """
    ends = {}
    for step in follow(graph, arrays, norms):
        if step.ends:
            read = zip(step.node.inputs, step.inputs)
            ends.update({source: value for source, value in read if isinstance(value, Scaled)})
    if len(ends) != 1:
        return None
    ((end, scaled),) = ends.items()
    if graph.nodes[end.node].op == VARIABLE or sorted(scaled.channels) != [0, 1, 2]:
        return None
    nodes = list(graph.nodes)
    noted = next(node.attrs for node in nodes if node.name == IMAGES)
    nodes[end.node] = Node(VARIABLE, IMAGES, noted)
    return replace(graph, nodes=tuple(nodes)).pruned(), scaled


def _read_variable(name: str, arrays: Mapping[str, np.ndarray]) -> Value:
    if name == IMAGES:
        return Scaled(np.ones(3), np.zeros(3))
    return arrays[name].astype(np.float64) if name in arrays else None


def _apply(node: Node, inputs: Sequence[Value]) -> list[Value]:
    """The outputs of a node, as far as they are known."""
    first = inputs[0] if inputs else None
    if node.op in FILLED:
        return [np.full(1, FILLED[node.op])]
    if node.op in WITH_SCALAR:
        scalar = node.setting("scalar", None)
        known = isinstance(scalar, (int, float))
        return [_combine(WITH_SCALAR[node.op], first, np.full(1, float(scalar))) if known else None]
    if node.op in WITH_ARRAY and len(inputs) == 2:
        return [_combine(WITH_ARRAY[node.op], *inputs)]
    if node.op in UNCHANGED or (node.op in RESHAPING and isinstance(first, np.ndarray)):
        return [first]
    if node.op in NEARLY_UNCHANGED or node.op in CASTS:
        whole = node.op in CASTS and node.setting("dtype", "") in ("float32", "float64")
        return [first if whole or not isinstance(first, Scaled) else first._replace(exact=False)]
    if isinstance(first, Scaled) and node.op in _OF_IMAGES:
        return _OF_IMAGES[node.op](node, first, inputs[1:])
    return [None]


def _combine(operation: str, left: Value, right: Value) -> Value:
    """Arithmetic on images and a constant, or on two constants."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return _combine_constants(operation, left, right)
    if isinstance(left, Scaled) and isinstance(right, np.ndarray):
        return _scale(operation, left, right)
    if isinstance(left, np.ndarray) and isinstance(right, Scaled) and operation in ("+", "*", "-"):
        return _scale("r-" if operation == "-" else operation, right, left)
    return None


def _combine_constants(operation: str, left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    if left.size in (1, 3) and right.size in (1, 3):
        left, right = left.reshape(-1), right.reshape(-1)  # a Reshape is not followed
    try:
        return calculate(operation, left, right)
    except ValueError:
        return None


def _scale(operation: str, images: Scaled, array: np.ndarray) -> Scaled | None:
    constant = _by_channel(array)
    if constant is None or constant.size not in (1, images.factor.size):
        return None
    if operation in "*/":
        factor, shift = (calculate(operation, part, constant) for part in (images.factor, images.shift))
    else:
        pairs = ((images.factor, np.zeros(1)), (images.shift, constant))
        factor, shift = (calculate(operation, part, by) for part, by in pairs)
    even = constant.size == array.size or bool((array == constant.reshape(3, 1, 1)).all())
    return _check(images._replace(factor=factor, shift=shift, exact=images.exact and even))


def _check(scaled: Scaled) -> Scaled | None:
    """What is scaled, where it can be undone."""
    return scaled if np.isfinite(scaled.factor).all() and scaled.factor.all() else None


def _by_channel(array: np.ndarray) -> np.ndarray | None:
    """A constant as one value, or one of each of three channels: of a mean image its means."""
    if array.size in (1, 3):
        return array.reshape(-1)
    return array.reshape(-1, 3, *array.shape[-2:]).mean((0, 2, 3)) if array.shape[-3:-2] == (3,) else None


def _apply_norm(node: Node, inputs: Sequence[Value]) -> list[Value]:
    """What a BatchNorm predicts of scaled images."""
    first, *others = inputs
    if not isinstance(first, Scaled) or len(others) != 4 or node.setting("axis", 1) != 1:
        return [None]
    parts = [part for part in others if isinstance(part, np.ndarray) and part.shape == first.factor.shape]
    if len(parts) < 4 or node.op != "BatchNorm":
        return [None]
    gamma, beta, mean, variance = parts
    if node.setting("fix_gamma", True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(np.maximum(variance, 0) + node.setting("eps", MXNET_EPSILON))
    shift = (first.shift - mean) * scale + beta
    return [_check(first._replace(factor=first.factor * scale, shift=shift))]


def _take_channels(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    begin, end = node.setting("begin", 0), node.setting("end", None)
    numbers = isinstance(begin, int) and isinstance(end, (int, type(None)))
    return [first.take(slice(begin, end)) if numbers and node.setting("axis", 0) in (1, -3) else None]


def _split_channels(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    if node.setting("axis", 1) != 1 or node.setting("num_outputs", 0) != len(first.channels):
        return [None]
    return [first.take(slice(place, place + 1)) for place in range(len(first.channels))]


def _join_channels(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    parts = [first, *(value for value in others if isinstance(value, Scaled))]
    if len(parts) <= len(others) or node.setting("dim", 1) != 1:
        return [None]
    factor, shift = (np.concatenate([part[place] for part in parts]) for place in range(2))
    channels = tuple(channel for part in parts for channel in part.channels)
    return [Scaled(factor, shift, channels, all(part.exact for part in parts))]


def _turn_channels(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    turned = node.setting("axis", ()) in (1, (1,))
    return [first.take(slice(None, None, -1)) if turned else first._replace(exact=False)]


def _normalise(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    mean, std = (np.atleast_1d(np.array(node.setting(*of), np.float64)) for of in (("mean", 0.0), ("std", 1.0)))
    centred = _scale("-", first, mean)
    return [centred and _scale("/", centred, std)]


def _as_tensor(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    return [first._replace(factor=first.factor / 255, shift=first.shift / 255, exact=False)]


def _scale_by_convolution(node: Node, first: Scaled, others: Sequence[Value]) -> list[Value]:
    """A 1x1 convolution that scales each channel, and puts them in another order at most."""
    weight, bias = (*others, np.zeros(3), np.zeros(3))[:2]
    plain = node.setting("stride", ()) in ((), (1, 1), 1) and node.setting("pad", ()) in ((), (0, 0), 0)
    if not isinstance(weight, np.ndarray) or not isinstance(bias, np.ndarray) or bias.size != 3 or not plain:
        return [None]
    if weight.shape == (3, 1, 1, 1) and node.setting("num_group", 1) == 3:
        weight = np.diag(weight.reshape(3))
    if weight.size != 9 or ((weight.reshape(3, 3) != 0).sum(axis=1) != 1).any() or len(first.channels) != 3:
        return [None]
    matrix = weight.reshape(3, 3)
    order = np.abs(matrix).argmax(axis=1)
    channels = tuple(first.channels[place] for place in order)
    return [Scaled(first.factor[order] * matrix.sum(axis=1), matrix @ first.shift + bias, channels, first.exact)]


_OF_IMAGES: dict[str, Callable[[Node, Scaled, Sequence[Value]], list[Value]]] = {
    "slice_axis": _take_channels,
    "SliceChannel": _split_channels,
    "split": _split_channels,
    "Concat": _join_channels,
    "concat": _join_channels,
    "reverse": _turn_channels,
    "flip": _turn_channels,
    "_image_normalize": _normalise,
    "_image_to_tensor": _as_tensor,
    "Convolution": _scale_by_convolution,
}
