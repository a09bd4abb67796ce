"""The net of a plan in Gluon and on PyTorch, with the same arrays, and how far one is from the other."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import torch
from mxnet import autograd

from mxnet_resnet.engines.mxnet import models as gluon
from mxnet_resnet.engines.torch import nets
from tests.helpers.family import images, relative

STATISTICS = ("moving_mean", "moving_var")


def draw(shapes, seed=0):
    """Arrays as of a trained net, by name; gammas are smaller in deep nets, lest their scores overflow."""
    random = np.random.default_rng(seed)
    norms = sum(name.endswith("gamma") for name in shapes)
    scale = min(1, 5 / norms**0.5)
    laws = {
        "weight": lambda shape: random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape),
        "gamma": lambda shape: random.uniform(0.5 * scale, 1.5 * scale, shape),
        "moving_var": lambda shape: random.uniform(0.5, 1.5, shape),
    }
    arrays = {}
    for name, shape in shapes.items():
        law = next((law for ending, law in laws.items() if name.endswith(ending)), None)
        arrays[name] = (law(shape) if law else random.normal(0, 0.1, shape)).astype(np.float32)
    return arrays


class Twins:
    """Attributes: ``gluon`` and ``torch``, the nets; ``arrays``, what both were given, by our names."""

    def __init__(self, plan, classes=10, **options):
        self.gluon, self.torch = gluon.from_architecture(plan, classes, **options), nets.build(plan, classes, **options)
        self.gluon.initialize()
        self.arrays = draw({name: parameter.shape for name, parameter in self.gluon.collect_params().items()})
        self.give()

    def give(self):
        """Give both the arrays they began with."""
        for name, parameter in self.gluon.collect_params().items():
            parameter.set_data(mx.nd.array(self.arrays[name], dtype=parameter.dtype))
        nets.fill(self.torch, self.arrays)

    def forward(self, side, training=False):
        """How far the scores differ in float32, by the largest."""
        data = images(side, 4)
        with torch.no_grad():
            found = self.torch.train(training)(torch.tensor(data)).numpy()
        with autograd.pause(train_mode=training):
            return relative(found, self.gluon(mx.nd.array(data)).asnumpy())

    def step(self, side):
        """As (scores, statistics, gradients): how far each differs after a step in training, in float64.

        Statistics and gradients are the worst of their arrays. A gradient that is zero but for rounding, of a shift
        before a BatchNorm, is measured by the largest of all.
        """
        self.gluon.cast("float64")
        self.torch.double().train()
        self.give()
        data = mx.nd.array(images(side, 4), dtype="float64")
        data.attach_grad()  # else MXNet goes not back through a BatchNorm on the images, and leaves its statistics
        with autograd.record():
            expected = self.gluon(data)
            loss = (expected**2).sum()
        loss.backward()
        mx.nd.waitall()
        found = self.torch(torch.tensor(data.asnumpy()))
        found.square().sum().backward()

        named = nets.name_tensors(self.torch)
        statistics, gradients = [0.0], {}
        for name, parameter in self.gluon.collect_params().items():
            if name.endswith(STATISTICS):
                statistics.append(relative(named[name].numpy(), parameter.data().asnumpy()))
            elif parameter.grad_req == "null":
                assert not named[name].requires_grad, name
            else:
                gradients[name] = parameter.grad().asnumpy()
        largest = max(np.abs(gradient).max() for gradient in gradients.values())
        worst = max(
            np.abs(named[name].grad.numpy() - gradient).max() / max(np.abs(gradient).max(), 1e-8 * largest)
            for name, gradient in gradients.items()
        )
        return relative(found.detach().numpy(), expected.asnumpy()), max(statistics), worst
