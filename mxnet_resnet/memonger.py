"""Which activations to keep for the backward pass, and which to compute again (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

import re

import mxnet as mx

from mxnet_resnet.symbols import nodes

KEPT = re.compile(r"_plus\d+|pooling0|conv0|softmax|.*_plus")


def mirror(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Keep what enters and leaves the residual units; compute the inside of each again. Changes ``symbol``, returns it.

    MXNet honours it in executors (``Module``), not in hybridized Gluon blocks. Gradients and running statistics stay
    the same, to the bit on the CPU.
    """
    variables = set(symbol.list_inputs())
    for node in nodes(symbol):
        if node.name not in variables and not KEPT.fullmatch(node.name):
            node._set_attr(force_mirroring="True")
    return symbol


def planned_megabytes(executor: mx.executor.Executor) -> int:
    """The memory that MXNet planned for an executor's activations, in MB, without parameters and their gradients."""
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))
