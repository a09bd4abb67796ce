"""Nets to convert, as if they were trained, and how files of PyTorch are read."""

from mxnet_resnet.engines.mxnet import models
from mxnet_resnet.use import weights
from tests.helpers.family import randomise

SHALLOW = ((1, 16), (2, 16), (2, 32), (2, 64))


def ours(plan, classes=10):
    """A net of ours, as if it were trained, and as weights.read gives it."""
    net = randomise(models.from_architecture(plan, classes), but="bn_data_beta")
    arrays = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    return weights.Weights(plan, classes, arrays, "a test")


def load_torch(torch, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, weights_only=True)
