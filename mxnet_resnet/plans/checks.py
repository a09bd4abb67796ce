"""What no net can be: sentences for whoever asks for it, in every engine."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans.architecture import DATA_NORMS, SHORTCUT_NAMES, Architecture

MOST_UNITS, MOST_PLANES = 10_000, 1 << 20


def check_plan(plan: Architecture, classes: int | None, bn_momentum: float = 0.9) -> None:
    """Raise UserError for a plan, a number of classes or a momentum of BatchNorms that mean nothing."""
    check_arguments(plan.dimensions, 3, plan.drop_rate, plan.data_norm)
    check_whole("width", plan.width)
    if not isinstance(plan.epsilon, (int, float)) or not 0 <= plan.epsilon < 1:
        raise UserError(f"epsilon {plan.epsilon!r} is not in [0, 1)")
    if classes is not None:
        check_whole("classes", classes)
    check_momentum(bn_momentum)
    find_shortcut_name(plan.shortcut)


def check_arguments(
    dimensions: Sequence[tuple[int, int]], in_planes: int, drop_rate: float, data_norm: str | None
) -> None:
    """Raise UserError for what no net can have."""
    pairs = [tuple(pair) if isinstance(pair, (tuple, list)) else () for pair in dimensions]
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs) or pairs[0][0] != 1:
        raise UserError(f"dimensions {list(dimensions)} are not (1, channels), then (units, planes) of each stage")
    for number in (value for pair in pairs for value in pair):
        if check_whole("units and planes", number) > MOST_PLANES:
            raise UserError(f"{number} units or planes are more than any net has: {MOST_PLANES:,} are the most")
    if sum(units for units, _ in pairs) > MOST_UNITS:
        raise UserError(f"a net of more than {MOST_UNITS:,} units is none that can be made")
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


def check_momentum(bn_momentum: float) -> None:
    """Raise UserError for a momentum that no BatchNorm can have."""
    if not 0 <= bn_momentum <= 1:
        raise UserError(f"bn_momentum {bn_momentum} is not in [0, 1]")


def find_shortcut_name(name: str) -> str:
    """The whole name of a shortcut, a value of architecture.SHORTCUT_NAMES. Raises UserError, which names its keys."""
    if name not in SHORTCUT_NAMES:
        raise UserError(f"there is no shortcut {name!r}: it is one of {', '.join(SHORTCUT_NAMES)}")
    return SHORTCUT_NAMES[name]


def refuse_dropout(drop_rate: float) -> None:
    """Raise UserError for a dropout in a bottleneck."""
    if drop_rate:
        raise UserError("bottleneck units have no dropout: the drop rate has to be 0")


def check_identity(in_planes: int, out_planes: int) -> None:
    """Raise UserError for an identity shortcut that would lose channels."""
    if out_planes < in_planes:
        raise UserError(f"an identity shortcut cannot have fewer channels out ({out_planes}) than in ({in_planes})")
