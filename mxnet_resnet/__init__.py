"""ResNets on Apache MXNet 1.9.1: definitions, records, training, logs and prediction.

The networks are attributes of the package: ``mxnet_resnet.ResNet50``, ``mxnet_resnet.build``. MXNet is imported when
the first of them is asked for; nothing else here needs it.
"""

from mxnet_resnet.plans.architecture import CLASSES

__version__ = "0.1.0"
__all__ = sorted(["PreActResNet", "ResNet", *CLASSES, "build", "count_layers", "count_parameters", "list_models"])


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mxnet_resnet' has no attribute {name!r}")
    from mxnet_resnet.engines.mxnet import compat

    compat.load()
    from mxnet_resnet.engines.mxnet import models

    return getattr(models, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
