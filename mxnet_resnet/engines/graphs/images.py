"""Which images a graph takes: what the arithmetic on them, and a BatchNorm behind that, tells of their values.

Followed is what computes a factor and a shift by channel; what comes behind anything else is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Union

import numpy as np

from mxnet_resnet.runs.graph import IMAGES, VARIABLE, Graph, Node

BYTES, UNIT = 255.0, 1.0  # the largest value of images in 0..255, and in 0..1

# What is taken off images in 0..1, or normalised ones, is smaller; what these are divided by, too.
LARGEST_UNIT_MEAN, SMALLEST_BYTE_SCALE = 3.0, 20.0
LARGEST_UNIT_SCALE = 1.0  # images in 0..255 that are divided by less have values of hundreds
SMALLEST_SCALE = 1 / 50  # divided by less: images in 0..1 are made images in 0..255
# Means and deviations of photographs in 0..1 lie within; normalised images have a mean of 0 and a deviation of 1.
UNIT_MEANS, LARGEST_UNIT_DEVIATION = (0.1, 0.9), 0.45
NORM_EPSILON = 1e-3  # of a BatchNorm that does not tell

UNCHANGED = {"identity", "_copy", "BlockGrad", "Cast", "cast", "amp_cast", "Dropout", "clip", "_np_copy"}
WITH_SCALAR = {
    **dict.fromkeys(("_plus_scalar", "_PlusScalar", "_npi_add_scalar"), "+"),
    **dict.fromkeys(("_minus_scalar", "_MinusScalar", "_npi_subtract_scalar"), "-"),
    **dict.fromkeys(("_mul_scalar", "_MulScalar", "_npi_multiply_scalar"), "*"),
    **dict.fromkeys(("_div_scalar", "_DivScalar", "_npi_true_divide_scalar"), "/"),
    **dict.fromkeys(("_rminus_scalar", "_RMinusScalar", "_npi_rsubtract_scalar"), "r-"),
}
WITH_ARRAY = {
    **dict.fromkeys(("elemwise_add", "_plus", "_Plus", "broadcast_add", "broadcast_plus", "_npi_add"), "+"),
    **dict.fromkeys(("elemwise_sub", "_minus", "_Minus", "broadcast_sub", "broadcast_minus", "_npi_subtract"), "-"),
    **dict.fromkeys(("elemwise_mul", "_mul", "_Mul", "broadcast_mul", "_npi_multiply"), "*"),
    **dict.fromkeys(("elemwise_div", "_div", "_Div", "broadcast_div", "_npi_true_divide"), "/"),
}
RESHAPING = {"Reshape", "reshape", "expand_dims", "squeeze", "broadcast_to", "_np_reshape", "_npx_reshape"}
FILLED = {"_zeros": 0.0, "zeros": 0.0, "_ones": 1.0, "ones": 1.0}


class _Scaled(NamedTuple):
    """Images times ``factor`` plus ``shift``, float64, of each channel, or one for all."""

    factor: np.ndarray
    shift: np.ndarray

    def undo(self, values: np.ndarray) -> np.ndarray:
        """What is scaled to these values."""
        return (values - self.shift) / self.factor


_Value = Union[_Scaled, np.ndarray, None]  # of the images; of parameters alone; None is not known
_Values = dict[tuple[int, int], _Value]


def infer_range(graph: Graph, arrays: Mapping[str, np.ndarray]) -> float | None:
    """BYTES or UNIT where a graph tells that its images are RGB in 0..255 or in 0..1, or None where it does not.

    ``arrays`` are its parameters and statistics.
    """
    return _agree(_list_signs(graph, arrays))


def infer_range_of_norm(mean: np.ndarray, variance: np.ndarray) -> float | None:
    """As `infer_range`, by the running mean and variance (3,) of a BatchNorm on the images."""
    if mean.max(initial=0) > LARGEST_UNIT_MEAN:
        return BYTES
    low, high = UNIT_MEANS
    deviation = np.sqrt(np.maximum(variance, 0)).max(initial=0)
    within = mean.size and mean.min() > low and mean.max() < high
    return UNIT if within and 0 < deviation < LARGEST_UNIT_DEVIATION else None


def _infer_range_of_arithmetic(scaled: _Scaled) -> float | None:
    mean, scale = scaled.undo(np.zeros(1)), 1 / np.abs(scaled.factor)
    if mean.min() < -0.01:  # what is added to images was taken off them before
        return None
    if mean.max() > LARGEST_UNIT_MEAN or scale.min() >= SMALLEST_BYTE_SCALE:
        return BYTES
    low, high = UNIT_MEANS
    centred = mean.min() > low and mean.max() < high and scale.max() <= LARGEST_UNIT_SCALE
    return UNIT if centred or scale.max() <= SMALLEST_SCALE else None


def _agree(signs: Iterable[float | None]) -> float | None:
    found = {sign for sign in signs if sign is not None}
    return found.pop() if len(found) == 1 else None


def _list_signs(graph: Graph, arrays: Mapping[str, np.ndarray]) -> list[float | None]:
    """What each path from the images tells, where it is followed no further."""
    values: _Values = {}
    signs = []
    for place, node in enumerate(graph.nodes):
        if node.op == VARIABLE:
            values[place, 0] = _read_variable(node.name, arrays)
            continue
        inputs = [values.get((source.node, source.number)) for source in node.inputs]
        ends = [value for value in inputs if isinstance(value, _Scaled)]
        outputs = _apply(node, inputs)
        values.update({(place, number): value for number, value in enumerate(outputs)})
        if ends and not any(isinstance(value, _Scaled) for value in outputs):
            signs += [_read_norm(node, inputs) or _infer_range_of_arithmetic(end) for end in ends]
    return signs


def _read_variable(name: str, arrays: Mapping[str, np.ndarray]) -> _Value:
    if name == IMAGES:
        return _Scaled(np.ones(1), np.zeros(1))
    return arrays[name].astype(np.float64) if name in arrays else None


def _read_norm(node: Node, inputs: Sequence[_Value]) -> float | None:
    """What the running mean and variance of a BatchNorm tell of the images that it gets scaled."""
    if node.op != "BatchNorm" or len(inputs) != 5:
        return None
    scaled, _, _, mean, variance = inputs
    if not (isinstance(scaled, _Scaled) and isinstance(mean, np.ndarray) and isinstance(variance, np.ndarray)):
        return None
    if scaled.factor.size not in (1, mean.size) or variance.shape != mean.shape:
        return None
    return infer_range_of_norm(scaled.undo(mean), variance / scaled.factor**2)


def _apply(node: Node, inputs: Sequence[_Value]) -> list[_Value]:
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
    if isinstance(first, _Scaled) and node.op in _OF_IMAGES:
        return _OF_IMAGES[node.op](node, first, inputs[1:])
    return [None]


def _combine(operation: str, left: _Value, right: _Value) -> _Value:
    """Arithmetic on images and a constant, or on two constants."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        left, right = _by_channel(left), _by_channel(right)
        return None if left is None or right is None else _calculate(operation, left, right)
    if isinstance(left, np.ndarray) and isinstance(right, _Scaled) and operation in ("+", "*", "-"):
        left, right, operation = right, left, "r-" if operation == "-" else operation
    constant = _by_channel(right) if isinstance(right, np.ndarray) else None
    if not isinstance(left, _Scaled) or constant is None or len({1, left.factor.size, constant.size}) > 2:
        return None
    nothing = np.zeros(1)
    if operation in "*/":
        factor, shift = (_calculate(operation, part, constant) for part in left)
    else:
        factor, shift = (_calculate(operation, part, by) for part, by in zip(left, (nothing, constant)))
    return _Scaled(factor, shift) if np.isfinite(factor).all() and factor.all() else None


def _calculate(operation: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        if operation == "+":
            return left + right
        if operation in ("-", "r-"):
            return left - right if operation == "-" else right - left
        return left * right if operation == "*" else left / right


def _by_channel(array: np.ndarray) -> np.ndarray | None:
    """A constant as one value, or one of each of three channels: of a mean image its means."""
    if array.size in (1, 3):
        return array.reshape(-1)
    return array.reshape(-1, 3, *array.shape[-2:]).mean((0, 2, 3)) if array.shape[-3:-2] == (3,) else None


def _take_channels(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    if node.setting("axis", 0) not in (1, -3):
        return [None]
    begin, end = node.setting("begin", 0), node.setting("end", None)
    if not isinstance(begin, int) or not isinstance(end, (int, type(None))):
        return [None]
    part = slice(begin, end)
    return [_Scaled(*(values if values.size == 1 else values[part] for values in first))]


def _split_channels(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    number = node.setting("num_outputs", 0)
    sizes = {values.size for values in first}
    if node.setting("axis", 1) != 1 or not isinstance(number, int) or not sizes <= {1, number}:
        return [None]
    return [_Scaled(*(values[min(index, values.size - 1)][None] for values in first)) for index in range(number)]


def _join_channels(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    parts = [first, *(value for value in others if isinstance(value, _Scaled))]
    alone = all(values.size == 1 for part in parts for values in part)
    if len(parts) <= len(others) or node.setting("dim", 1) != 1 or not alone:
        return [None]
    return [_Scaled(*(np.concatenate(values) for values in zip(*parts)))]


def _turn_channels(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    turned = node.setting("axis", ()) in (1, (1,))
    return [_Scaled(*(values[::-1] for values in first))] if turned else [first]


def _normalise(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    mean, std = (np.atleast_1d(np.array(node.setting(*of), np.float64)) for of in (("mean", 0.0), ("std", 1.0)))
    return [_combine("/", _combine("-", first, mean), std)]


def _as_tensor(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    return [_combine("/", first, np.full(1, 255.0))]


def _scale_by_convolution(node: Node, first: _Scaled, others: Sequence[_Value]) -> list[_Value]:
    """A 1x1 convolution that scales each channel, and puts them in another order at most."""
    weight, bias = (*others, np.zeros(3), np.zeros(3))[:2]
    plain = node.setting("stride", ()) in ((), (1, 1), 1) and node.setting("pad", ()) in ((), (0, 0), 0)
    if not isinstance(weight, np.ndarray) or not isinstance(bias, np.ndarray) or bias.size != 3 or not plain:
        return [None]
    if weight.shape == (3, 1, 1, 1) and node.setting("num_group", 1) == 3:
        weight = np.diag(weight.reshape(3))
    if weight.size != 9 or ((weight.reshape(3, 3) != 0).sum(axis=1) != 1).any():
        return [None]
    matrix = weight.reshape(3, 3)
    factor, shift = (np.broadcast_to(values, 3) for values in first)
    return [_Scaled(factor[np.abs(matrix).argmax(axis=1)] * matrix.sum(axis=1), matrix @ shift + bias)]


_OF_IMAGES: dict[str, Callable[[Node, _Scaled, Sequence[_Value]], list[_Value]]] = {
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
