"""The BatchNorm on the images of a net with a plan, ``bn_data``, which takes arithmetic before it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mxnet_resnet.engines.graphs.scaling import Scaled
from mxnet_resnet.engines.net import TrainedNet, require_plan

NAME = "bn_data"
SMALLEST_VARIANCE = 1e-3  # a smaller one is 1, and in gamma: float32 would round what is left of it


def prepend(net: TrainedNet, scaled: Scaled) -> TrainedNet:
    """A net that does to its images first what ``scaled`` does, exactly, all channels of which it has.

    That is in its BatchNorm on the images, which it has then, and where channels are swapped in its first convolution.
    """
    plan = require_plan(net)
    gamma, beta, mean, variance = _read(net.arrays, plan.data_norm, plan.epsilon)
    factor, shift = scaled.factor, scaled.shift
    mean, variance = (mean - shift) / factor, (variance + plan.epsilon) / factor**2 - plan.epsilon
    gamma, kind = gamma * np.sign(factor), plan.data_norm or "plain"
    if variance.min() < SMALLEST_VARIANCE:
        gamma, variance = gamma * np.sqrt((1 + plan.epsilon) / (variance + plan.epsilon)), np.ones(3)
    if (gamma != 1).any():
        kind = "full"
    order = np.argsort(scaled.channels)
    norm = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_var": variance}
    arrays = {f"{NAME}_{part}": values[order].astype(np.float32) for part, values in norm.items()}
    params = {name: array for name, array in arrays.items() if "moving" not in name}
    return replace(
        net,
        params={**net.params, **params, "conv0_weight": net.params["conv0_weight"][:, order]},
        statistics={**net.statistics, **{name: array for name, array in arrays.items() if name not in params}},
        plan=replace(plan, data_norm=kind),
        origin=f"{net.origin}, with the arithmetic on its images in the BatchNorm on them",
    )


def _read(arrays: Mapping[str, np.ndarray], kind: str | None, epsilon: float) -> tuple[np.ndarray, ...]:
    """Gamma, beta, mean and variance, float64 (3,): of a BatchNorm that changes nothing where there is none."""
    if kind is None:
        return np.ones(3), np.zeros(3), np.zeros(3), np.full(3, 1 - epsilon)
    parts = ("gamma", "beta", "moving_mean", "moving_var")
    gamma, beta, mean, variance = (arrays[f"{NAME}_{part}"].astype(np.float64) for part in parts)
    return gamma if kind == "full" else np.ones(3), beta, mean, variance
