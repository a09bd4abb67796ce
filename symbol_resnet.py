"""ResNet-v2 as a Symbol, with the calls and the argument names of the published MXNet checkpoints."""

from mxnet_resnet.engines.mxnet.symbol_resnet import residual_unit, resnet

__all__ = ["residual_unit", "resnet"]
