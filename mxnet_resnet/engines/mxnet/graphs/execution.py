"""Graphs as a CPU executes them: the functions of the saved ones, in operators that oneDNN computes fast.

What each change gives is in docs/performance.md. Arguments, states and outputs keep their names and shapes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import mxnet as mx
import numpy as np
from mxnet.contrib import amp

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.graphs import folding
from mxnet_resnet.engines.mxnet.graphs.match import ADDITIONS
from mxnet_resnet.engines.mxnet.graphs.rewriting import Entry, Node, Rewriting, setting
from mxnet_resnet.engines.mxnet.ndarrays import Arrays

VERSION = 2  # of the graphs that are executed: another one rounds otherwise
NORM_WITH_RELU = "_contrib_BatchNormWithReLU"
SHAPE = "__shape__"
# What gives (N, C, H, W) where its first input is that.
KEEPS_FOUR_AXES = {"BatchNorm", "Activation", "Pooling", "Dropout", "Concat", "_copy", *ADDITIONS}


def for_cpu(
    symbol: mx.sym.Symbol,
    fuse: bool = True,
    pad_images: bool = False,
    train: bool = True,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> mx.sym.Symbol:
    """``symbol`` as it is to be executed on a CPU.

    Args:
        symbol: a net.
        fuse: make a BatchNorm and the ReLU behind it one operator.
        pad_images: give a first convolution of three channels a fourth one, of zeros. For bfloat16, where oneDNN has no
            kernel for three; the result of its general one has a layout in which a fused BatchNorm is less exact.
        train: make the global pooling a mean, which is slower and has a faster gradient.
        shapes: of parameters by name, where the graph does not tell them.
    """
    graph = Rewriting(symbol)
    _tell_shapes(graph, shapes or {})
    spatial = _spatial(graph)
    fused = _relus_behind_norms(graph, spatial) if fuse and _has_onednn() else {}
    padded = _first_convolution(graph) if pad_images else None
    for index, node in enumerate(graph.nodes):
        if index in fused.values():
            continue
        if index in fused:
            norm = graph.nodes[fused[index]]
            graph.replace(index, NORM_WITH_RELU, graph.inputs(fused[index]), norm.get("attrs", {}))
        elif train and _averages_images(node) and index in spatial:
            # The gradient of a pooling over all of an image is slow, and so is, for its layout, that of the BatchNorm
            # before it, which knows no fused ReLU then.
            graph.replace(index, "mean", graph.inputs(index), {"axis": (2, 3), "keepdims": True})
        elif index == padded:
            images, weight, *bias = graph.inputs(index)
            graph.keep(index, inputs=[_with_zeros(graph, images), _with_zeros(graph, weight), *bias])
        else:
            graph.keep(index)
    return graph.symbol()


def for_prediction(
    symbol: mx.sym.Symbol, params: tuple[Arrays, Arrays], dtype: str = "float32"
) -> tuple[mx.sym.Symbol, tuple[Arrays, Arrays]]:
    """A graph and its (arguments, states), as they predict fastest on a CPU: BatchNorms folded, in ``dtype``.

    Raises UserError for bfloat16 of a net in int8.
    """
    if dtype != "float32" and '"_contrib_quantize' in symbol.tojson():
        raise UserError(f"the net computes in int8: it cannot do so in {dtype}")
    whole = (
        {name: array if array.dtype == np.float32 else array.astype("float32") for name, array in arrays.items()}
        for arrays in params
    )
    folded, args, auxs = folding.fold(symbol, *whole)
    shapes = {name: array.shape for name, array in args.items()}
    executed = for_cpu(folded, pad_images=dtype == "bfloat16", train=False, shapes=shapes)
    if dtype == "float32":
        return executed, (args, auxs)
    lowered, args, auxs = amp.convert_model(executed, args, auxs, target_dtype=dtype, cast_optional_params=True)
    return lowered, (args, auxs)


def _has_onednn() -> bool:
    """Whether MXNet computes with oneDNN, which alone has the fused operator."""
    return mx.runtime.Features().is_enabled("MKLDNN") and os.environ.get("MXNET_MKLDNN_ENABLED") != "0"


def _tell_shapes(graph: Rewriting, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for node in graph.nodes:
        if node["op"] == "null" and node["name"] in shapes:
            node["attrs"] = {**node.get("attrs", {}), SHAPE: str(shapes[node["name"]])}


def _spatial(graph: Rewriting) -> set[int]:
    """The nodes whose output is known to be (N, C, H, W)."""
    found = set()
    for index, node in enumerate(graph.nodes):
        if node["op"] == "Convolution":
            planar = len(setting(node, "kernel", ())) == 2 and setting(node, "layout", None) in (None, "NCHW")
        else:
            planar = node["op"] in KEEPS_FOUR_AXES and node["inputs"][0][0] in found
        if planar:
            found.add(index)
    return found


def _relus_behind_norms(graph: Rewriting, spatial: set[int]) -> dict[int, int]:
    """The ReLUs that alone read a BatchNorm of (N, C, H, W), each with it."""
    readers = graph.readers()
    pairs = {}
    for index, node in enumerate(graph.nodes):
        if node["op"] == "Activation" and setting(node, "act_type", "") == "relu":
            source = node["inputs"][0][0]
            norm = graph.nodes[source]
            by_channel = norm["op"] == "BatchNorm" and setting(norm, "axis", 1) == 1
            if by_channel and source in spatial and readers[source] == 1:
                pairs[index] = source
    return pairs


def _first_convolution(graph: Rewriting) -> int | None:
    """The convolution that reads the three channels of the images, as they are or normalised, all at once."""
    images = {index for index, node in enumerate(graph.nodes) if node["name"] == "data"}
    for index, node in enumerate(graph.nodes):
        if node["inputs"] and node["inputs"][0][0] in images:
            if node["op"] == "Convolution":
                weight = setting(graph.nodes[node["inputs"][1][0]], SHAPE, ())
                return index if len(weight) == 4 and weight[1] == 3 and setting(node, "num_group", 1) == 1 else None
            images.add(index)
    return None


def _averages_images(node: Node) -> bool:
    average = node["op"] == "Pooling" and setting(node, "pool_type", "max") == "avg"
    return average and bool(setting(node, "global_pool", False)) and setting(node, "layout", None) in (None, "NCHW")


def _with_zeros(graph: Rewriting, entry: Entry) -> Entry:
    """(N, 3, H, W) as (N, 4, H, W)."""
    name = graph.name(entry)
    zeros = graph.add("_zeros", f"{name}_zeros", [], {"shape": (0, 1, 0, 0), "dtype": "float32"})
    return graph.add("Concat", f"{name}_padded", [entry, zeros], {"num_args": 2, "dim": 1})
