"""ResNets on Apache MXNet 1.9.1: definitions, records, training, logs and prediction.

The networks are attributes of the package: ``mxnet_resnet.ResNet50``, ``mxnet_resnet.build``.
"""

from importlib import import_module

import mxnet_resnet.engines.mxnet  # noqa: F401  (until all rooms but that one do without MXNet)

FUNCTIONS = ("build", "count_layers", "count_parameters", "list_models")


def __getattr__(name: str):
    """Import the networks, and with them MXNet, when the first is asked for: logs and plots need neither."""
    if name in FUNCTIONS or name[0].isupper():
        models = import_module("mxnet_resnet.engines.mxnet.models")
        if hasattr(models, name):
            return getattr(models, name)
    raise AttributeError(f"module 'mxnet_resnet' has no attribute {name!r}")
