"""Graphs as a CPU executes them: the functions of the saved ones, in operators that oneDNN computes fast.

What each change gives is in docs/performance.md. Arguments, states and outputs keep their names and shapes.
"""

from __future__ import annotations

import ast

import mxnet as mx
from mxnet.contrib import amp

from mxnet_resnet import folding
from mxnet_resnet.checkpoint import Arrays
from mxnet_resnet.rewriting import Rewriting

FUSED = "_contrib_BatchNormWithReLU"


def for_cpu(symbol: mx.sym.Symbol, fuse: bool = True, pad_images: bool = False) -> mx.sym.Symbol:
    """``symbol`` as it is to be executed on a CPU.

    Args:
        symbol: a net whose images ``data`` are (N, 3, H, W).
        fuse: make a BatchNorm and the ReLU behind it one operator.
        pad_images: give the first convolution a fourth channel, of zeros. For bfloat16, where oneDNN has no kernel of
            its own for three; the result of its general one has a layout in which a fused BatchNorm is less exact.
    """
    graph = Rewriting(symbol)
    fused = _norms_before_relus(graph) if fuse else {}
    padded = _first_convolution(graph) if pad_images else None
    for index, node in enumerate(graph.nodes):
        if index in fused.values():
            continue
        if index in fused:
            norm = graph.nodes[fused[index]]
            graph.replace(index, FUSED, graph.inputs(fused[index]), norm.get("attrs", {}))
        elif node["op"] == "Pooling" and _pools_globally(node):
            # The gradient of a pooling over all of an image is slow, and so is, for its layout, that of the BatchNorm
            # before it, which knows no fused ReLU then.
            graph.replace(index, "mean", graph.inputs(index), {"axis": (2, 3), "keepdims": True})
        elif index == padded:
            images, weight, *bias = graph.inputs(index)
            graph.keep(index, inputs=[_with_zeros(graph, images), _with_zeros(graph, weight), *bias])
        else:
            graph.keep(index)
    return graph.symbol()


def _norms_before_relus(graph: Rewriting) -> dict[int, int]:
    """The ReLUs that alone read a BatchNorm, each with it."""
    readers = graph.readers()
    pairs = {}
    for index, node in enumerate(graph.nodes):
        if node["op"] == "Activation" and node["attrs"]["act_type"] == "relu":
            source = node["inputs"][0][0]
            if graph.nodes[source]["op"] == "BatchNorm" and readers[source] == 1:
                pairs[index] = source
    return pairs


def _first_convolution(graph: Rewriting) -> int | None:
    """The convolution that reads the images, as they are or normalised."""
    images = {index for index, node in enumerate(graph.nodes) if node["name"] == "data"}
    for index, node in enumerate(graph.nodes):
        if node["inputs"] and node["inputs"][0][0] in images:
            if node["op"] == "Convolution":
                return index
            images.add(index)
    return None


def _pools_globally(node: dict) -> bool:
    attributes = node["attrs"]
    return ast.literal_eval(attributes.get("global_pool", "False")) and attributes.get("pool_type") == "avg"


def _with_zeros(graph: Rewriting, entry: list[int]) -> list[int]:
    """(N, 3, H, W) as (N, 4, H, W)."""
    name = graph.name(entry)
    zeros = graph.add("_zeros", f"{name}_zeros", [], {"shape": (0, 1, 0, 0), "dtype": "float32"})
    return graph.add("Concat", f"{name}_padded", [entry, zeros], {"num_args": 2, "dim": 1})


def for_prediction(
    symbol: mx.sym.Symbol, params: tuple[Arrays, Arrays], dtype: str = "float32"
) -> tuple[mx.sym.Symbol, tuple[Arrays, Arrays]]:
    """A graph and its (arguments, states), as they predict fastest on a CPU: BatchNorms folded, in ``dtype``."""
    folded, args, auxs = folding.fold(symbol, *params)
    executed = for_cpu(folded, pad_images=dtype == "bfloat16")
    if dtype == "float32":
        return executed, (args, auxs)
    lowered, args, auxs = amp.convert_model(executed, args, auxs, target_dtype=dtype, cast_optional_params=True)
    return lowered, (args, auxs)
