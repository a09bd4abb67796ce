"""The family of nets by name, and nets and images to compute with."""

import mxnet as mx
import numpy as np

LARGE = ["ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "ResNet200"]
SMALL = ["ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110", "ResNet164"]
DEEP = ["ResNet1001", "ResNet1202"]
WIDE = ["WideResNet16", "WideResNet28", "WideResNet40"]
SHALLOW = [(1, 8), (2, 8), (1, 16), (2, 24)]


def both(names):
    return [prefix + name for prefix in ("", "PreAct") for name in names]


def images(side, batch=2):
    return np.random.RandomState(1).normal(size=(batch, 3, side, side)).astype(np.float32)


def relative(found, expected):
    assert found.shape == expected.shape and np.isfinite(expected).all()
    return np.abs(found - expected).max() / np.abs(expected).max()


def randomise(net, side=32, but="nothing"):
    """Initialize a Gluon net as if it were trained, but for the vectors of that name."""
    net.initialize(mx.init.Xavier(), force_reinit=True)
    net(mx.nd.zeros((1, 3, side, side)))
    random = np.random.RandomState(0)
    for name, parameter in net.collect_params().items():
        if name.endswith(("mean", "beta", "bias")) and but not in name:
            parameter.set_data(mx.nd.array(random.normal(0, 0.1, parameter.shape)))
        elif name.endswith(("var", "gamma")):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
    return net
