"""What can be asked of a net, in any framework: arguments that mean nothing are refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import DATA_NORMS


def check_arguments(
    dimensions: Sequence[tuple[int, int]], in_planes: int, drop_rate: float, data_norm: str | None
) -> None:
    """Raise UserError for what no net can have."""
    pairs = [tuple(pair) if isinstance(pair, (tuple, list)) else () for pair in dimensions]
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs) or pairs[0][0] != 1:
        raise UserError(f"dimensions {list(dimensions)} are not (1, channels), then (units, planes) of each stage")
    for number in (value for pair in pairs for value in pair):
        check_whole("units and planes", number)
    check_whole("in_planes", in_planes)
    if not isinstance(drop_rate, (int, float)) or not 0 <= drop_rate < 1:
        raise UserError(f"drop rate {drop_rate!r} is not in [0, 1)")
    if data_norm not in DATA_NORMS:
        raise UserError(f"there is no data_norm {data_norm!r}: it is one of {', '.join(map(repr, DATA_NORMS))}")


def check_whole(name: str, value: int) -> int:
    """``value``, which has to be a whole number from 1 on. Raises UserError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise UserError(f"{name} {value!r} is not a whole number from 1 on")
    return number
