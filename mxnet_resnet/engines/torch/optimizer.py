"""Momentum by MXNet's rule, whose state every engine shares."""

from __future__ import annotations

from collections.abc import Iterable

import torch

MOMENTUM = "momentum"


class Momentum(torch.optim.Optimizer):
    """Momentum in units of the weights, as MXNet 1.9.1's NAG and SGD keep it.

    With a gradient g of a loss and the weight decay in it, m = mu * m - lr * g; then SGD adds m to the weight, and NAG
    adds mu * m - lr * g. PyTorch's own SGD keeps m by the rate, which is the same only while the rate stays.

    MXNet's NAG works in place and writes the weight first: what it keeps as m has the decay of the new weight in it.
    Parameters without a gradient are passed over.
    """

    def __init__(self, groups: Iterable[dict], momentum: float, nesterov: bool):
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.momentum, self.nesterov = momentum, nesterov
        if momentum:
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter][MOMENTUM] = torch.zeros_like(parameter)

    def set_rate(self, rate: float) -> None:
        """Let the next steps have a learning rate."""
        for group in self.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def step(self) -> bool:  # type: ignore[override]
        """Update the weights from their gradients. Returns True, which a GradScaler that skips it does not."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group["lr"], group["weight_decay"])
        return True

    def _update(self, weights: list[torch.Tensor], rate: float, decay: float) -> None:
        gradients = [weight.grad for weight in weights]
        decaying = torch._foreach_add(gradients, weights, alpha=decay) if decay else gradients
        if not self.momentum:
            torch._foreach_add_(weights, decaying, alpha=-rate)
            return
        momenta = [self.state[weight][MOMENTUM] for weight in weights]
        torch._foreach_mul_(momenta, self.momentum)
        if not self.nesterov:
            torch._foreach_add_(momenta, decaying, alpha=-rate)
            torch._foreach_add_(weights, momenta)
            return
        torch._foreach_add_(weights, momenta, alpha=self.momentum)
        torch._foreach_add_(weights, decaying, alpha=-rate * (1 + self.momentum))
        torch._foreach_add_(momenta, gradients, alpha=-rate)
        if decay:
            torch._foreach_add_(momenta, weights, alpha=-rate * decay)
