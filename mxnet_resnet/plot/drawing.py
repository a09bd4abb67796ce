"""Pictures of what nets answer: images with bars of probabilities, and with heat maps over them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mxnet_resnet.base.files import check_picture, replacing
from mxnet_resnet.base.places import find_suffix
from mxnet_resnet.plot import figures
from mxnet_resnet.plot.answers import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_DRAWN = 60  # images in a picture
MOST_BARS = 5
COLUMNS, OVERLAY_COLUMNS = 4, 6
LONGEST_NAME = 28  # letters


class Drawn(NamedTuple):
    """An image (H, W, 3), RGB, uint8, with its name and the answers about it."""

    image: np.ndarray
    name: str
    answers: Sequence[Answer]


def grid(drawn: Sequence[Drawn]) -> Figure:
    """Each image with bars for its best five answers below it."""
    from matplotlib.figure import Figure

    drawn = [one._replace(answers=one.answers[:MOST_BARS]) for one in drawn]
    columns = min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    most = max(len(one.answers) for one in drawn)
    height = 2.4 + 0.22 * most
    figure = Figure(figsize=(3 * columns, height * rows), layout="constrained")
    cells = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [2.4, 0.22 * most] * rows})
    for axes in cells.flat:
        axes.set_axis_off()
    for number, one in enumerate(drawn):
        row, column = divmod(number, columns)
        _show(cells[2 * row, column], one.image, one.name)
        _bars(cells[2 * row + 1, column], one.answers)
    return figure


def overlays(drawn: Sequence[Drawn], maps: Sequence[Sequence[np.ndarray]]) -> Figure:
    """Each image, and beside it, for each answer, the image under its heat map (H, W), float, 0..1."""
    from matplotlib.figure import Figure

    width = 1 + max(map(len, maps))
    side_by_side = min(max(1, OVERLAY_COLUMNS // width), len(drawn))
    rows = math.ceil(len(drawn) / side_by_side)
    figure = Figure(figsize=(2.2 * width * side_by_side, 2.5 * rows), layout="constrained")
    cells = figure.subplots(rows, width * side_by_side, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for place, one, heats in zip(cells.reshape(-1, width), drawn, maps):
        _show(place[0], one.image, one.name)
        for axes, answer, heat in zip(place[1:], one.answers, heats):
            _show(axes, one.image, f"{_short(answer.name)}\n{answer.probability:.1%}")
            axes.imshow(heat, cmap="jet", alpha=0.5, vmin=0, vmax=1)
    return figure


def check_target(out: Path) -> None:
    """Raise UserError unless pictures can be drawn to a file of this name."""
    check_picture(out, (".png", ".jpg", ".pdf", ".svg"))


def save(figure: Figure, out: Path) -> None:
    """Write a picture whole or not at all. Raises UserError where the system refuses."""
    with replacing(out) as (temporary,):
        figures.write(figure, temporary, find_suffix(out)[1:], dpi=100)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else "antialiased")
    axes.set_title(figures.printable(title), fontsize=8, parse_math=False)


def _bars(axes: Axes, answers: Sequence[Answer]) -> None:
    places = range(len(answers))
    axes.barh(places, [answer.probability for answer in answers], color="C0", alpha=0.4, height=0.8)
    for place, answer in enumerate(answers):
        text = figures.printable(f"{answer.probability:.1%} {_short(answer.name)}")
        axes.text(0.01, place, text, fontsize=8, va="center", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(len(answers) - 0.5, -0.5))


def _short(name: str) -> str:
    """A name without the WordNet number in front, as long as there is room for."""
    number, _, rest = name.partition(" ")
    if rest and len(number) == 9 and number[0] == "n" and number[1:].isdecimal():
        name = rest
    return textwrap.shorten(name, LONGEST_NAME, placeholder="…") or name[:LONGEST_NAME]
