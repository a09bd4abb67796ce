"""The MXNet engine. Importing any of it makes the process ready for ``import mxnet``, which comes after that."""

from mxnet_resnet.engines.mxnet import compat

compat.prepare()
