"""Momentum by MXNet's rule, whose state every engine shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mxnet_resnet.engines.base import TrainingSpec

MOMENTUM = "momentum"
DECAYED = {"weights": ("_weight",), "gammas": ("_weight", "_gamma"), "all": ("",)}  # how the names of these end


class Momentum(torch.optim.Optimizer):
    """Momentum in units of the weights, as MXNet 1.9.1's NAG and SGD keep it.

    With a gradient g of a loss and the weight decay in it, m = mu * m - lr * g; then SGD adds m to the weight, and NAG
    adds mu * m - lr * g. PyTorch's own SGD keeps m by the rate, which is the same only while the rate stays.

    MXNet's NAG works in place and writes the weight first: what it keeps as m has the decay of the new weight in it.
    Parameters without a gradient are passed over.

    Attributes:
        rate: the learning rate, (), where the weights are, so that a step that a GPU repeats by itself reads it anew.
    """

    def __init__(self, groups: Iterable[dict], momentum: float, nesterov: bool):
        super().__init__(groups, {"weight_decay": 0.0})
        self.momentum, self.nesterov = momentum, nesterov
        self.rate = self.param_groups[0]["params"][0].detach().new_zeros(())
        if momentum:
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter][MOMENTUM] = torch.zeros_like(parameter)

    def set_rate(self, rate: float) -> None:
        """Let the next steps have a learning rate."""
        self.rate.fill_(rate)

    @torch.no_grad()
    def step(self) -> bool:  # type: ignore[override]
        """Update the weights from their gradients. Returns True, which a GradScaler that skips it does not."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group["weight_decay"])
        return True

    def _update(self, weights: list[torch.Tensor], decay: float) -> None:
        steps = self._scale(weights, decay)
        if not self.momentum:
            torch._foreach_sub_(weights, steps)
            return
        momenta = [self.state[weight][MOMENTUM] for weight in weights]
        torch._foreach_mul_(momenta, self.momentum)
        if not self.nesterov:
            torch._foreach_sub_(momenta, steps)
            torch._foreach_add_(weights, momenta)
            return
        torch._foreach_add_(weights, momenta, alpha=self.momentum)
        torch._foreach_sub_(weights, steps, alpha=1 + self.momentum)
        torch._foreach_sub_(momenta, self._scale(weights, decay) if decay else steps)

    def _scale(self, weights: list[torch.Tensor], decay: float) -> list[torch.Tensor]:
        """The gradients of weights, with their decay as the weights stand, by the learning rate."""
        gradients = [weight.grad for weight in weights]
        if not decay:
            return torch._foreach_mul(gradients, self.rate)
        steps = torch._foreach_add(gradients, weights, alpha=decay)
        torch._foreach_mul_(steps, self.rate)
        return steps


def group_by_decay(weights: Mapping[str, nn.Parameter], spec: TrainingSpec) -> list[dict]:
    """The weights with those that decay apart."""
    decayed = [weight for name, weight in weights.items() if name.endswith(DECAYED[spec.decayed])]
    others = [weight for name, weight in weights.items() if not name.endswith(DECAYED[spec.decayed])]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others}]
    return [group for group in groups if group["params"]]
