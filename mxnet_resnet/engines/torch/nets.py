"""Nets computed by PyTorch, an optional extra."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.plans.layouts import Layout

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise UserError("PyTorch checkpoints need PyTorch: pip install torch safetensors") from error


def compute_scores(
    arrays: Mapping[str, np.ndarray], layout: Layout, plan: Architecture, images: np.ndarray
) -> np.ndarray:
    """The scores of a state_dict's net, in PyTorch's own operators: images (N, 3, H, W) to (N, classes)."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        return _Net(tensors, layout, plan)(torch.from_numpy(images)).numpy()


class _Net:
    """A ResNet straight from its state_dict."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], layout: Layout, plan: Architecture):
        self.tensors, self.layout, self.plan = tensors, layout, plan
        self.stages = len(plan.dimensions) - 1

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolve(x, self.top("conv0"), 1 if self.plan.small_images else 2)
        if not self.plan.preact:
            x = torch.relu(self.norm(x, self.top("bn0")))
        if not self.plan.small_images:
            x = functional.max_pool2d(x, 3, 2, 1)
        for stage, (units, _) in enumerate(self.plan.dimensions[1:], start=1):
            for unit in range(1, units + 1):
                x = self.unit(x, stage, unit, stride=2 if unit == 1 and stage > 1 else 1)
        if self.plan.preact:
            x = torch.relu(self.norm(x, self.top("bn1")))
        x = x.mean(dim=(2, 3))
        head = self.top("fc1")
        if f"{head}.weight" not in self.tensors:
            return x
        return functional.linear(x, self.tensors[f"{head}.weight"], self.tensors.get(f"{head}.bias"))

    def unit(self, x: torch.Tensor, stage: int, unit: int, stride: int) -> torch.Tensor:
        depth, with_stride = (3, 2) if self.plan.bottleneck else (2, 1)
        path, shortcut = x, x
        for number in range(1, depth + 1):
            convolution, norm = (self.layout.unit_layer(stage, unit, f"{kind}{number}") for kind in ("conv", "bn"))
            step = stride if number == with_stride else 1
            if self.plan.preact:
                path = torch.relu(self.norm(path, norm))
                if number == 1:
                    shortcut = self.shortcut(x, path, stage, unit, stride)
                path = self.convolve(path, convolution, step)
            else:
                path = self.norm(self.convolve(path, convolution, step), norm)
                path = torch.relu(path) if number < depth else path
        if self.plan.preact:
            return path + shortcut
        return torch.relu(path + self.pad(self.shortcut(x, x, stage, unit, stride), path.shape[1]))

    def shortcut(self, x: torch.Tensor, activated: torch.Tensor, stage: int, unit: int, stride: int) -> torch.Tensor:
        name = self.layout.unit_layer(stage, unit, "sc")
        if f"{name}.weight" in self.tensors:
            projected = self.convolve(activated, name, stride)
            return projected if self.plan.preact else self.norm(projected, self.layout.unit_layer(stage, unit, "sc_bn"))
        x = x[:, :, ::stride, ::stride]
        block = self.plan.dimensions[stage][1] * (4 if self.plan.bottleneck else self.plan.width)
        return self.pad(x, block) if self.plan.preact else x

    def pad(self, x: torch.Tensor, channels: int) -> torch.Tensor:
        """Channels of zeros behind those of ``x``, or around them."""
        new = channels - x.shape[1]
        before = new // 2 if self.plan.shortcut == "centered_identity" else 0
        return functional.pad(x, (0, 0, 0, 0, before, new - before))

    def convolve(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        weight = self.tensors[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            self.tensors[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, weight, bias)

    def top(self, layer: str) -> str | None:
        return self.layout.top_layer(layer, self.stages)
