"""Which images a graph takes: what the arithmetic on them, and a BatchNorm behind that, tells of their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mxnet_resnet.engines.graphs.scaling import Scaled, Step, follow
from mxnet_resnet.runs.graph import Graph

BYTES, UNIT = 255.0, 1.0  # the largest value of images in 0..255, and in 0..1

# What is taken off images in 0..1, or normalised ones, is smaller; what these are divided by, too.
LARGEST_UNIT_MEAN, SMALLEST_BYTE_SCALE = 3.0, 20.0
LARGEST_UNIT_SCALE = 1.0  # images in 0..255 that are divided by less have values of hundreds
SMALLEST_SCALE = 1 / 50  # divided by less: images in 0..1 are made images in 0..255
# Means and deviations of photographs in 0..1 lie within; normalised images have a mean of 0 and a deviation of 1.
UNIT_MEANS, LARGEST_UNIT_DEVIATION = (0.1, 0.9), 0.45


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


def _infer_range_of_arithmetic(scaled: Scaled) -> float | None:
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
    return [_read_norm(step) or _infer_range_of_arithmetic(end) for step in follow(graph, arrays) for end in step.ends]


def _read_norm(step: Step) -> float | None:
    """What the running mean and variance of a BatchNorm tell of the images that it gets scaled."""
    if step.node.op != "BatchNorm" or len(step.inputs) != 5:
        return None
    scaled, _, _, mean, variance = step.inputs
    if not (isinstance(scaled, Scaled) and isinstance(mean, np.ndarray) and isinstance(variance, np.ndarray)):
        return None
    if scaled.factor.shape != mean.shape or variance.shape != mean.shape:
        return None
    return infer_range_of_norm(scaled.undo(mean), variance / scaled.factor**2)
