"""How large the images are that are decoded: a few bytes can claim gigabytes of pixels. One bound, and its flag."""

from __future__ import annotations

import argparse

from mxnet_resnet.base.arguments import integer

MOST_PIXELS = 178_956_970  # of an image, as Pillow has it
# A larger image than that (a PNG of one bit a pixel comes near) may have so many pixels a byte.
BLANK, DENSEST = 1 << 24, 10_000
OF_OPENCV = 1 << 30  # the most that OpenCV decodes

_given: list[int] = []  # by the flag, for the process


def add_flag(group: argparse._ActionsContainer) -> None:
    """Add the flag of every command that decodes images; `allow` is told its value."""
    group.add_argument(
        "--max-pixels",
        type=integer(high=OF_OPENCV),
        help=f"the most pixels that an image may have ({MOST_PIXELS}; and {DENSEST} a byte beyond {BLANK})",
    )


def allow(pixels: int | None) -> None:
    """Let images have so many pixels, few bytes or many; None is as it was."""
    _given[:] = [] if pixels is None else [pixels]


def explain_size(width: int, height: int, size: int) -> str:
    """Why an image that claims so many pixels in ``size`` bytes is not decoded, or nothing."""
    most, pixels = (_given or [MOST_PIXELS])[0], width * height
    claim = f"its {size:,} bytes claim {width}x{height} pixels"
    if pixels > most:
        return f"{claim}, and {most:,} are the most that are read: --max-pixels allows more"
    if not _given and pixels > max(BLANK, DENSEST * size):
        return f"{claim}, and {DENSEST:,} a byte are the most that are believed: --max-pixels {pixels} allows it"
    return ""
