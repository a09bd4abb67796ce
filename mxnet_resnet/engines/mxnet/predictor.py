"""A net that classifies images, on one device."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.use.nets import Net


class Classifier:
    """``net`` on a device, computing ``batch_size`` crops at a time, on a CPU in float32 or bfloat16."""

    def __init__(self, net: Net, context: mx.Context, batch_size: int = 32, dtype: str = "float32"):
        self.net, self.batch_size = net, batch_size
        self.context = context
        self._symbol, self._params = mx.sym.softmax(net.symbol, name="softmax"), net.params
        if context.device_type == "cpu":
            self._symbol, self._params = execution.for_prediction(self._symbol, net.params, dtype)
        self._executor: mx.executor.Executor | None = None
        self._bound = 0

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """The class probabilities (N, classes) of images as crops (N, K, H, W, 3), RGB, uint8: means over their K."""
        number, crops_an_image = crops.shape[:2]
        rows = crops.reshape(-1, *crops.shape[2:])
        begins = range(0, len(rows), self.batch_size)
        found = np.concatenate([self._batch(rows[begin : begin + self.batch_size]) for begin in begins])
        return found.reshape(number, crops_an_image, -1).mean(axis=1)

    def _batch(self, images: np.ndarray) -> np.ndarray:
        rows = as_data(self.net, images)
        if len(rows) > self._bound:
            self._bound = len(rows)
            shape = (self._bound, *rows.shape[1:])
            self._executor = self._symbol.simple_bind(self.context, grad_req="null", data=shape)
            self._executor.copy_params_from(*self._params)
        filling = np.repeat(rows[-1:], self._bound - len(rows), axis=0)
        data = mx.nd.array(np.concatenate([rows, filling]))
        return self._executor.forward(is_train=False, data=data)[0].asnumpy()[: len(rows)]


def as_data(net: Net, images: np.ndarray) -> np.ndarray:
    """RGB images (N, H, W, 3), uint8, as the input (N, 3, H, W), float32, of a net."""
    data = images.transpose(0, 3, 1, 2).astype(np.float32)
    if net.mean.any() or (net.std != 1).any():
        data = (data - net.mean.reshape(1, 3, 1, 1)) / net.std.reshape(1, 3, 1, 1)
    return data
