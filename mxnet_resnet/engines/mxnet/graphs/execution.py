"""Graphs as a CPU executes them: the functions of the saved ones, in operators that oneDNN computes fast.

What each change gives is in docs/performance.md. Parameters, statistics and outputs keep their names and shapes.
"""

from __future__ import annotations

import os

import mxnet as mx
from mxnet.contrib import amp

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import folding
from mxnet_resnet.engines.graphs.match import ADDITIONS
from mxnet_resnet.engines.graphs.rewriting import Rewriting
from mxnet_resnet.engines.mxnet import symbols
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.runs.checkpoint import Arrays
from mxnet_resnet.runs.graph import IMAGES, SHAPE, Graph, Node, Output

VERSION = 2  # of the graphs that are executed: another one rounds otherwise
NORM_WITH_RELU = "_contrib_BatchNormWithReLU"
# What gives (N, C, H, W) where its first input is that.
KEEPS_FOUR_AXES = {"BatchNorm", "Activation", "Pooling", "Dropout", "Concat", "_copy", *ADDITIONS}


def for_cpu(symbol: mx.sym.Symbol, fuse: bool = True, pad_images: bool = False) -> mx.sym.Symbol:
    """``symbol``, a net, as it is to be trained on a CPU; the rest is as of `rewrite_for_cpu`."""
    return symbols.from_graph(rewrite_for_cpu(symbols.to_graph(symbol), fuse, pad_images))


def rewrite_for_cpu(graph: Graph, fuse: bool = True, pad_images: bool = False, train: bool = True) -> Graph:
    """``graph`` as it is to be executed on a CPU.

    Args:
        graph: a net.
        fuse: make a BatchNorm and the ReLU behind it one operator.
        pad_images: give a first convolution of three channels a fourth one, of zeros. For bfloat16, where oneDNN has no
            kernel for three; the result of its general one has a layout in which a fused BatchNorm is less exact.
        train: make the global pooling a mean, which is slower and has a faster gradient.
    """
    copy, spatial = Rewriting(graph), _find_spatial(graph)
    fused = _find_relus_behind_norms(graph, spatial) if fuse and _has_onednn() else {}
    padded = _find_first_convolution(graph) if pad_images else None
    for index, node in enumerate(graph.nodes):
        if index in fused.values():
            continue
        if index in fused:
            copy.replace(index, NORM_WITH_RELU, copy.inputs(fused[index]), graph.nodes[fused[index]].attrs)
        elif train and _averages_images(node) and index in spatial:
            # The gradient of a pooling over all of an image is slow, and so is, for its layout, that of the BatchNorm
            # before it, which knows no fused ReLU then.
            copy.replace(index, "mean", copy.inputs(index), {"axis": (2, 3), "keepdims": True})
        elif index == padded:
            images, weight, *bias = copy.inputs(index)
            copy.keep(index, inputs=[_add_zeros(copy, images), _add_zeros(copy, weight), *bias])
        else:
            copy.keep(index)
    return copy.graph()


def for_prediction(
    graph: Graph, params: Arrays, statistics: Arrays, dtype: str = "float32"
) -> tuple[mx.sym.Symbol, dict[str, mx.nd.NDArray], dict[str, mx.nd.NDArray]]:
    """A graph and its (parameters, statistics), as they predict fastest on a CPU: BatchNorms folded, in ``dtype``.

    Outputs are float32. Raises UserError for bfloat16 of a net in int8.
    """
    if dtype != "float32" and any(node.op.startswith("_contrib_quantize") for node in graph.nodes):
        raise UserError(f"the net computes in int8: it cannot do so in {dtype}")
    folded, params, statistics = folding.fold(graph, *map(folding.as_float32, (params, statistics)))
    shapes = {name: array.shape for name, array in params.items()}
    executed = rewrite_for_cpu(folded.with_shapes(shapes), pad_images=dtype == "bfloat16", train=False)
    symbol, params, statistics = symbols.from_graph(executed), to_mxnet(params), to_mxnet(statistics)
    if dtype == "float32":
        return symbol, params, statistics
    lowered, params, statistics = amp.convert_model(
        symbol, params, statistics, target_dtype=dtype, cast_optional_params=True
    )
    return mx.sym.amp_cast(lowered, dtype="float32"), params, statistics


def _has_onednn() -> bool:
    """Whether MXNet computes with oneDNN, which alone has the fused operator."""
    return mx.runtime.Features().is_enabled("MKLDNN") and os.environ.get("MXNET_MKLDNN_ENABLED") != "0"


def _find_spatial(graph: Graph) -> set[int]:
    """The nodes whose output is known to be (N, C, H, W)."""
    found = set()
    for index, node in enumerate(graph.nodes):
        if node.op == "Convolution":
            planar = len(node.setting("kernel", ())) == 2 and node.setting("layout", None) in (None, "NCHW")
        else:
            planar = node.op in KEEPS_FOUR_AXES and node.inputs[0].node in found
        if planar:
            found.add(index)
    return found


def _find_relus_behind_norms(graph: Graph, spatial: set[int]) -> dict[int, int]:
    """The ReLUs that alone read a BatchNorm of (N, C, H, W), each with it."""
    readers = graph.readers()
    pairs = {}
    for index, node in enumerate(graph.nodes):
        if node.op == "Activation" and node.setting("act_type", "") == "relu":
            source = node.inputs[0].node
            norm = graph.nodes[source]
            by_channel = norm.op == "BatchNorm" and norm.setting("axis", 1) == 1
            if by_channel and source in spatial and readers[source] == 1:
                pairs[index] = source
    return pairs


def _find_first_convolution(graph: Graph) -> int | None:
    """The convolution that reads the three channels of the images, as they are or normalised, all at once."""
    images = {index for index, node in enumerate(graph.nodes) if node.name == IMAGES}
    for index, node in enumerate(graph.nodes):
        if node.inputs and node.inputs[0].node in images:
            if node.op == "Convolution":
                weight = graph.nodes[node.inputs[1].node].setting(SHAPE, ())
                return index if len(weight) == 4 and weight[1] == 3 and node.setting("num_group", 1) == 1 else None
            images.add(index)
    return None


def _averages_images(node: Node) -> bool:
    average = node.op == "Pooling" and node.setting("pool_type", "max") == "avg"
    return average and bool(node.setting("global_pool", False)) and node.setting("layout", None) in (None, "NCHW")


def _add_zeros(copy: Rewriting, output: Output) -> Output:
    """(N, 3, H, W) as (N, 4, H, W)."""
    name = copy.name(output)
    zeros = copy.add("_zeros", f"{name}_zeros", [], {"shape": (0, 1, 0, 0), "dtype": "float32"})
    return copy.add("Concat", f"{name}_padded", [output, zeros], {"num_args": 2, "dim": 1})
