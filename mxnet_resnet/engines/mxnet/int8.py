"""Convolutions and dense layers in int8 for the CPU, by MXNet's own quantization."""

from __future__ import annotations

from dataclasses import replace

import mxnet as mx
import numpy as np
from mxnet.contrib.quantization import quantize_model

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import shapes, symbols
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet, to_numpy
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs.graph import SOFTMAX, Graph

BACKEND = "MKLDNN_QUANTIZE"
FUSED = ("_sg_mkldnn", "_contrib_quantize")  # begins of names of operators
BATCH = 50
# With one range for all channels of a weight, MXNet 1.9.1 writes graphs that it cannot bind again.
GRANULARITY = "channel-wise"


def quantize(folded: TrainedNet, images: np.ndarray, mode: str = "naive") -> TrainedNet:
    """A deployed net that is folded, with its convolutions and dense layers in int8.

    The ranges are those on images (N, 3, H, W) as it takes them. ``mode`` is ``"naive"``, the smallest and largest
    values, or ``"entropy"``, ranges that lose the least information. Raises UserError for a net that MXNet cannot put
    into int8, or that is.
    """
    if any(node.op.startswith(FUSED) for node in folded.graph.nodes):  # MXNet ends the process
        raise UserError(f"{folded.name} is in int8, or made for oneDNN, already: take the checkpoint it was made of")
    # A sigmoid would be made one operator with the classifier, and not be taken off again.
    graph = symbols.to_graph(shapes.without_notes(symbols.from_graph(folded.graph))).with_shapes(folded.shapes)
    symbol = symbols.from_graph(_spell_out(graph.with_activation(SOFTMAX)))
    try:
        quantized, params, statistics = quantize_model(
            symbol.get_backend_symbol(BACKEND),
            to_mxnet(folded.params),
            to_mxnet(folded.statistics),
            label_names=None,
            calib_mode=mode,
            calib_data=mx.io.NDArrayIter(images, batch_size=min(BATCH, len(images))),
            quantized_dtype="auto",
            quantize_mode="smart",
            quantize_granularity=GRANULARITY,
        )
    except RuntimeError as error:
        raise UserError(f"MXNet cannot put {folded.name} into int8: {shapes.explain(error)}") from error
    graph = symbols.to_graph(quantized.get_backend_symbol(BACKEND)).without_softmax()
    return replace(folded, graph=graph, params=to_numpy(params), statistics=to_numpy(statistics))


def _spell_out(graph: Graph) -> Graph:
    """A graph whose global poolings have a kernel, which int8 asks for, and which they have no use for."""
    nodes = [*graph.nodes]
    for place, node in enumerate(nodes):
        if node.op == "Pooling":
            nodes[place] = replace(node, attrs={"kernel": "(1, 1)", **node.attrs})
    return replace(graph, nodes=tuple(nodes))
