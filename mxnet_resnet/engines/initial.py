"""The values that a net begins with, the same on every engine: laws and defaults are those of MXNet's initializers.

Each array has a stream of its own, of the seed and its name: a layer more or less changes no other's.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from mxnet_resnet.runs.checkpoint import Arrays, Shape
from mxnet_resnet.runs.graph import INITIAL, VARIABLE, Graph

# Where no law is noted, by the ends of names; (law, its settings). Weights are drawn as published ResNet-v2 were.
DEFAULTS = {
    "weight": ("xavier", {"rnd_type": "gaussian", "factor_type": "in", "magnitude": 2}),
    "bias": ("zero", {}),
    "beta": ("zero", {}),
    "moving_mean": ("zero", {}),
    "gamma": ("one", {}),
    "moving_var": ("one", {}),
}

Law = tuple[str, Mapping[str, object]]


def draw(graph: Graph, shapes: Mapping[str, Shape], seed: int) -> tuple[Arrays, Arrays]:
    """The (parameters, statistics) of a graph, float32, of those names that have a shape.

    Each is drawn by the law that is noted on it, ``__init__``, as MXNet and Gluon write it. What has a law that is
    none of xavier, uniform, normal, zero, one and constant is left out: it is for the engine that knows the law.
    """
    statistics = set(graph.statistics)
    found: tuple[Arrays, Arrays] = ({}, {})
    for node in graph.nodes:
        if node.op != VARIABLE or node.name not in shapes:
            continue
        name, settings = _find_law(node.name, node.attrs.get(INITIAL))
        random = np.random.default_rng([seed, zlib.crc32(node.name.encode())])
        array = _LAWS[name](random, tuple(shapes[node.name]), **settings) if name in _LAWS else None
        if array is not None:
            found[node.name in statistics][node.name] = array.astype(np.float32, copy=False)
    return found


def _find_law(name: str, noted: str | None) -> Law:
    """The law of a variable; one without a name where there is none."""
    if not noted:
        return next((law for end, law in DEFAULTS.items() if name.endswith(end)), ("", {}))
    if not noted.startswith("["):
        return noted.lower(), {}
    law, settings = json.loads(noted)
    return law.lower(), settings


def _draw_xavier(
    random: np.random.Generator,
    shape: Shape,
    rnd_type: str = "uniform",
    factor_type: str = "avg",
    magnitude: float = 3,
) -> np.ndarray | None:
    """Of weights (out, in, ...) alone: vectors have no fans."""
    if len(shape) < 2:
        return None
    area = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * area, shape[0] * area
    scale = math.sqrt(magnitude / {"in": fan_in, "out": fan_out, "avg": (fan_in + fan_out) / 2}[factor_type])
    return _draw_normal(random, shape, scale) if rnd_type == "gaussian" else _draw_uniform(random, shape, scale)


def _draw_uniform(random: np.random.Generator, shape: Shape, scale: float = 0.07) -> np.ndarray:
    return random.uniform(-scale, scale, shape)


def _draw_normal(random: np.random.Generator, shape: Shape, sigma: float = 0.01) -> np.ndarray:
    return random.standard_normal(shape, np.float32) * np.float32(sigma)


def _fill(random: np.random.Generator, shape: Shape, value: float) -> np.ndarray:
    return np.full(shape, value)


def _fill_zeros(random: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.zeros(shape)


def _fill_ones(random: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.ones(shape)


_LAWS: dict[str, Callable[..., np.ndarray | None]] = {
    "xavier": _draw_xavier,
    "uniform": _draw_uniform,
    "normal": _draw_normal,
    "constant": _fill,
    "zero": _fill_zeros,
    "zeros": _fill_zeros,
    "one": _fill_ones,
    "ones": _fill_ones,
}
