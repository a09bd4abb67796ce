"""A trained net that MXNet computes, on one device."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from mxnet_resnet.engines.mxnet import nets, symbols
from mxnet_resnet.engines.mxnet.binding import Executor
from mxnet_resnet.engines.mxnet.graphs import execution
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet


class Predictor:
    """``net`` on a device, computing ``batch_size`` images at a time, on a CPU in float32 or bfloat16.

    Raises UserError where the arrays of the net do not fit its plan.
    """

    def __init__(self, net: TrainedNet, device: mx.Context, batch_size: int = 32, dtype: str = "float32"):
        self.net, self.batch_size = net, batch_size
        graph = nets.build_graph(net)
        if device.device_type == "cpu":
            symbol, params, statistics = execution.for_prediction(graph, net.params, net.statistics, dtype)
            self._executor = Executor(symbol, {**params, **statistics}, device)
        else:
            self._executor = Executor(symbols.from_graph(graph), to_mxnet(net.arrays), device)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The scores (N, classes), before the softmax, of images (N, 3, H, W) as the net takes them; all float32."""
        if not len(images):
            return np.empty((0, self.net.classes), np.float32)
        begins = range(0, len(images), self.batch_size)
        return np.concatenate([self._executor.compute(images[begin : begin + self.batch_size]) for begin in begins])
