"""ResNets on Apache MXNet 1.9.1: definitions, records, training, logs and prediction."""

from mxnet_resnet import compat as compat  # first: it prepares the process for `import mxnet`
