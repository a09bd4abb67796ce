"""Which activations to keep for the backward pass, and which to compute again (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

import re

import mxnet as mx

from mxnet_resnet.symbols import nodes

KEPT = re.compile(r"_plus\d+|pooling0|conv0|softmax|.*_plus")


def mirror(symbol: mx.sym.Symbol, behind: mx.sym.Symbol | None = None) -> mx.sym.Symbol:
    """Keep what enters and leaves the residual units; compute the inside of each again. Changes ``symbol``, returns it.

    With ``behind``, only what is computed from it is marked. MXNet honours the marks in executors (``Module``), not in
    hybridized Gluon blocks. Gradients and running statistics stay the same, to the bit on the CPU.
    """
    others = set(symbol.list_inputs())
    if behind is not None:
        others |= {node.name for node in nodes(behind)}
    for node in nodes(symbol):
        if node.name not in others and not KEPT.fullmatch(node.name):
            node._set_attr(force_mirroring="True")
    return symbol


def planned_megabytes(executor: mx.executor.Executor) -> int:
    """The memory that MXNet planned for an executor's activations, in MB, without parameters and their gradients."""
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))
