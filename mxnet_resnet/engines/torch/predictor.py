"""A trained net that PyTorch computes, on one device."""

from __future__ import annotations

import numpy as np
import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import emission, recognition
from mxnet_resnet.engines.net import TrainedNet, require_classes, require_graph, require_plan
from mxnet_resnet.engines.torch import memory, nets, precision
from mxnet_resnet.runs import checkpoint


class Predictor:
    """``net`` on a device, computing ``batch_size`` images at a time in float32 or bfloat16 (engines.net.Predictor).

    Raises UserError where the arrays of the net do not fit its plan.
    """

    def __init__(self, net: TrainedNet, device: torch.device, batch_size: int = 32, dtype: str = "float32"):
        self.net, self.batch_size = net, batch_size
        self._device, self._dtype = device, dtype
        self._module = build(net, device)
        for layer in self._module.modules():  # once: autocast would cast their weights in each batch
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.to(precision.DTYPES[dtype])

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The scores (N, classes), before the softmax, of images (N, 3, H, W) as the net takes them; all float32."""
        begins = range(0, len(images), self.batch_size)
        parts = [self._compute(images[begin : begin + self.batch_size]) for begin in begins]
        return np.concatenate(parts) if parts else np.empty((0, require_classes(self.net)), np.float32)

    @torch.inference_mode()
    def _compute(self, images: np.ndarray) -> np.ndarray:
        what = f"batches of {len(images)} images"
        with memory.explaining_shortage(self._device, what, lambda: "a smaller --batch-size takes less"):
            given = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            with precision.computing(self._device, self._dtype):
                scores = self._module(given.contiguous(memory_format=torch.channels_last))
            return scores.float().cpu().numpy()


def adopt(net: TrainedNet) -> TrainedNet:
    """A net with its plan and our names, which PyTorch computes. Raises UserError where it is none of our ResNets."""
    if net.plan is None and net.activation is not None:
        net = _recognise(net)
    classes = require_classes(net)
    plan = require_plan(net)
    checkpoint.check_fit(emission.emit(plan, classes).noted_shapes, net.params, net.statistics)
    return net


def _recognise(net: TrainedNet) -> TrainedNet:
    """A net of the graph that it has. Raises UserError where that is none of our ResNets, or has not all its arrays."""
    for name in sorted(net.arrays.keys() - {*require_graph(net).variables}):
        raise UserError(f"the checkpoint does not fit the net, which has no {name}")
    try:
        return recognition.recognise(net)
    except recognition.UnknownNetError as error:
        raise UserError(f"{error}: MXNet alone computes other graphs, and folded and int8 exports") from error


def build(net: TrainedNet, device: torch.device) -> torch.nn.Module:
    """A net with a plan, on a device, for prediction. Raises UserError where its arrays do not fit its plan."""
    module = nets.build(require_plan(net), net.classes)
    nets.fill(module, net.arrays)
    with memory.explaining_shortage(device, "the net", lambda: "another GPU or the CPU is needed"):
        return module.to(device, memory_format=torch.channels_last).eval()
