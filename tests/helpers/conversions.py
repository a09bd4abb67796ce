"""Nets to convert, as if they were trained, and how files of PyTorch are read."""

from dataclasses import replace

from mxnet_resnet.engines.mxnet import models
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.use import reading
from tests.helpers.family import randomise

SHALLOW = ((1, 16), (2, 16), (2, 32), (2, 64))


def as_net(plan, classes, arrays, name="a test"):
    """A net of arrays by our names."""
    statistics = {key: array for key, array in arrays.items() if key.endswith(reading.STATISTICS)}
    params = {key: array for key, array in arrays.items() if key not in statistics}
    shape = (3, 32, 32) if plan.small_images else (3, 224, 224)
    return TrainedNet(name, params, statistics, shape, classes, plan=plan)


def with_arrays(net, **changes):
    """``net`` with other arrays of these names."""
    changed = as_net(net.plan, net.classes, {**net.arrays, **changes})
    return replace(net, params=changed.params, statistics=changed.statistics)


def ours(plan, classes=10):
    """A net of ours, as if it were trained, and as reading.read_known gives it."""
    net = randomise(models.from_architecture(plan, classes), but="bn_data_beta")
    return as_net(plan, classes, {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()})


def load_torch(torch, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, weights_only=True)
