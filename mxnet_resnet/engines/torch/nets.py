"""Nets of plans as PyTorch's, with their arrays by our names, and what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import NO_TORCH
from mxnet_resnet.plans import layouts
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Arrays, check_fit

try:
    import torch
    from torch import nn
except ImportError as error:
    raise UserError(NO_TORCH) from error

from mxnet_resnet.engines.torch import models


def build(
    plan: Architecture, classes: int | None, *, bn_momentum: float = 0.9, zero_init_residual: bool = False
) -> models.ResNet | models.PreActResNet:
    """The net of a plan: images (N, 3, H, W) to scores (N, classes), or without classes to features (N, C)."""
    return models.from_architecture(plan, classes, bn_momentum, zero_init_residual=zero_init_residual)


def name_tensors(net: models.ResNet | models.PreActResNet) -> dict[str, torch.Tensor]:
    """The parameters and running statistics of a net themselves, by the names of the published MXNet ResNets.

    What these have no layer for is called as its place is: ``stage1_unit1_refinement_squeeze_weight``.
    """
    layout = layouts.find_own_torch(net.preact, isinstance(net.init_layer, nn.Conv2d))
    found = {}
    for place, module in net.named_modules():
        kinds = layouts.TORCH_NORM if isinstance(module, nn.BatchNorm2d) else layouts.WEIGHTS
        for kind, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if kind != layouts.TORCH_COUNTER:
                found[f"{layout.our_layer(place)}_{kinds.get(kind, kind)}"] = tensor
    return found


@torch.no_grad()
def fill(net: models.ResNet | models.PreActResNet, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a net its parameters and running statistics, by our names. Raises UserError where they do not fit it."""
    tensors = name_tensors(net)
    check_fit({name: tuple(tensor.shape) for name, tensor in tensors.items()}, dict(arrays), {})
    for name, tensor in tensors.items():
        tensor.copy_(torch.tensor(arrays[name]))


def make_state_dict(plan: Architecture, classes: int | None, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state_dict of the net of a plan, with its arrays by our names.

    Raises UserError where they do not fit it, or PyTorch has no units of its block here.
    """
    net = build(plan, classes)
    fill(net, arrays)
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def compute_scores(arrays: Arrays, layout: layouts.Layout, plan: Architecture, images: np.ndarray) -> np.ndarray:
    """The scores of a state_dict's net, as its library has that net: images (N, 3, H, W) to (N, classes).

    Raises UserError where the arrays do not fit the plan.
    """
    names = layout.parameters(arrays)
    ours = {name: arrays[theirs] for name, theirs in names.items()}
    classes = ours["fc1_weight"].shape[0] if "fc1_weight" in ours else None
    net = build(replace(plan, **layout.plan), classes)
    fill(net, ours)
    with torch.no_grad():
        return net.eval()(torch.from_numpy(images)).numpy()
