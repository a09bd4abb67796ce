"""MXNet, in a process that was made ready for it; benchmarks of PyTorch on a GPU run without it."""

import mxnet_resnet.engines.mxnet  # noqa: F401

# isort: split
import mxnet as mx

__all__ = ["mx"]
