"""The networks on PyTorch: ``from mxnet_resnet.torch import ResNet50``. They need no MXNet.

PyTorch is imported when the first of them is asked for.
"""

from mxnet_resnet import __all__ as NETS
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import NO_TORCH

SHORTCUTS = ["ConvolutionShortcut", "FullProjectionShortcut", "IdentityShortcut", "ProjectionShortcut"]
__all__ = [*NETS, *SHORTCUTS]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mxnet_resnet.torch' has no attribute {name!r}")
    try:
        from mxnet_resnet.engines.torch import models, shortcuts
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(NO_TORCH) from error
    return getattr(models if name in NETS else shortcuts, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
