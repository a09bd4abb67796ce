"""Grad-CAM: where in an image a net sees a class (Selvaraju et al., arXiv 1610.02391, section 3)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import cv2
import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.predictor import as_data
from mxnet_resnet.use.nets import Net

FEATURES = "features"


class GradCam:
    """Heat maps of the classes that ``net`` sees, on one device.

    They are of the last feature map, which the global pooling takes. Raises UserError for a net without one.
    """

    def __init__(self, net: Net, context: mx.Context):
        self.net, self._context = net, context
        features, rest = split(net.symbol)
        self._features = features.simple_bind(context, grad_req="null", data=(1, *net.image_shape))
        wanted = {name: "write" if name == FEATURES else "null" for name in rest.list_arguments()}
        self._rest = rest.simple_bind(context, grad_req=wanted, **{FEATURES: self._features.outputs[0].shape})
        for executor in (self._features, self._rest):
            executor.copy_params_from(*net.params, allow_extra_params=True)

    def maps(self, crop: np.ndarray, classes: Sequence[int]) -> list[np.ndarray]:
        """The heat map (H, W), float32, 0..1, of each class on an image (H, W, 3), RGB, uint8, as the net takes it.

        One on which nothing speaks for the class is 0 throughout.
        """
        data = mx.nd.array(as_data(self.net, crop[None]), self._context)
        features = self._features.forward(is_train=False, data=data)[0]
        found = []
        for label in classes:
            scores = self._rest.forward(is_train=True, **{FEATURES: features})[0]
            self._rest.backward(mx.nd.one_hot(mx.nd.array([label], self._context), scores.shape[1]))
            weights = self._rest.grad_dict[FEATURES].mean(axis=(2, 3), keepdims=True)
            heat = (weights * features).sum(axis=1).relu()[0].asnumpy()
            largest = heat.max()
            heat = cv2.resize(
                heat / largest if largest > 0 else heat, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR
            )
            found.append(heat)
        return found


def split(symbol: mx.sym.Symbol) -> tuple[mx.sym.Symbol, mx.sym.Symbol]:
    """The graph up to what its global pooling takes, and the graph from there, an input ``features`` (N, C, H, W), on.

    Raises UserError where there is no global pooling.
    """
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    poolings = [
        node
        for node in nodes
        if node["op"] == "Pooling" and node.get("attrs", {}).get("global_pool", "False") in ("True", "1")
    ]
    if not poolings and any(node["op"].startswith("_sg_mkldnn") for node in nodes):
        raise UserError("a net in int8 has no gradients, which heat maps come from: take the checkpoint it was made of")
    if not poolings:
        raise UserError("the net has no global pooling, before which its last feature map would be")
    last, output, *_ = poolings[-1]["inputs"][0]
    before = {**graph, "heads": [[last, output, 0]]}
    nodes_after = [*nodes]
    nodes_after[last] = {"op": "null", "name": FEATURES, "inputs": []}
    arguments = sorted({*graph["arg_nodes"], last})
    after = {**graph, "nodes": nodes_after, "arg_nodes": arguments}
    return mx.sym.load_json(json.dumps(before)), mx.sym.load_json(json.dumps(after))
