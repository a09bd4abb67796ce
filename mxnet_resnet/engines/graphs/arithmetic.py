"""The arithmetic that graphs do beside their layers: operators, what they compute, and scores without it."""

from __future__ import annotations

import numpy as np

from mxnet_resnet.runs.graph import Graph

# The arithmetic of operators with a number, and with an array; "r-" takes the first off the second.
WITH_SCALAR = {
    **dict.fromkeys(("_plus_scalar", "_PlusScalar", "_npi_add_scalar"), "+"),
    **dict.fromkeys(("_minus_scalar", "_MinusScalar", "_npi_subtract_scalar"), "-"),
    **dict.fromkeys(("_mul_scalar", "_MulScalar", "_npi_multiply_scalar"), "*"),
    **dict.fromkeys(("_div_scalar", "_DivScalar", "_npi_true_divide_scalar"), "/"),
    **dict.fromkeys(("_rminus_scalar", "_RMinusScalar", "_npi_rsubtract_scalar"), "r-"),
}
WITH_ARRAY = {
    **dict.fromkeys(("elemwise_add", "_plus", "_Plus", "broadcast_add", "broadcast_plus", "_npi_add"), "+"),
    **dict.fromkeys(("elemwise_sub", "_minus", "_Minus", "broadcast_sub", "broadcast_minus", "_npi_subtract"), "-"),
    **dict.fromkeys(("elemwise_mul", "_mul", "_Mul", "broadcast_mul", "_npi_multiply"), "*"),
    **dict.fromkeys(("elemwise_div", "_div", "_Div", "broadcast_div", "_npi_true_divide"), "/"),
}


def calculate(operation: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Arithmetic on two constants. Raises ValueError where their shapes do not go together."""
    with np.errstate(all="ignore"):
        if operation == "+":
            return left + right
        if operation in ("-", "r-"):
            return left - right if operation == "-" else right - left
        return left * right if operation == "*" else left / right


def strip_scores(graph: Graph) -> tuple[Graph, float, float]:
    """A graph without the arithmetic by numbers on its first output, and the factor and the shift that this is."""
    factor, shift = 1.0, 0.0
    while (node := graph.last).op in WITH_SCALAR:
        operation, scalar = WITH_SCALAR[node.op], node.setting("scalar", None)
        if not isinstance(scalar, (int, float)) or (operation == "/" and not scalar):
            break
        # What is behind this has already been taken off: factor * (node) + shift.
        if operation in "*/":
            factor = factor * scalar if operation == "*" else factor / scalar
        else:
            shift += factor * (-scalar if operation == "-" else scalar)
            factor = -factor if operation == "r-" else factor
        graph = graph.up_to(node.inputs[0])
    return graph, factor, shift
