"""Curves as a picture (by matplotlib) and as a page that zooms (by plotly)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.places import find_suffix
from mxnet_resnet.plot import curves
from mxnet_resnet.plot.curves import Curve, View
from mxnet_resnet.plot.run import PHASES, Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Page

STYLES = {"train": ("--", "dash", 0.75), "validation": ("-", "solid", 1.0)}  # in matplotlib, in plotly, opacity
BAND = 0.2  # its opacity
PANEL, TALL = 9.0, 5.5  # inches
PAGE_TITLE = (
    "Training dashed, validation solid, triangles where the learning rate changes. "
    "Drag to zoom, double-click to go back, click a name to hide it."
)
LEGEND_ROWS, LEGEND_ROW = 2, 0.24  # those that TALL has room for, and the inches of each more


def check_format(out: Path) -> None:
    """Raise UserError unless ``out`` ends as a format that there is."""
    from matplotlib.backend_bases import FigureCanvasBase

    formats = {*FigureCanvasBase.get_supported_filetypes(), "html"} - {"pgf"}  # which needs LaTeX
    if find_suffix(out)[1:] not in formats:
        raise UserError(f"cannot draw to {out}: its name has to end in one of {', '.join(sorted(formats))}")


def draw(runs: Sequence[Run], view: View, out: Path) -> None:
    """Draw curves to ``out``, in the format that its suffix names. Raises UserError."""
    check_format(out)
    suffix = find_suffix(out)[1:]
    if suffix == "html":
        text = page(runs, view).to_html(include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
        with replacing(out) as (temporary,):
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    else:
        drawn = figure(runs, view)
        with replacing(out) as (temporary,):
            write(drawn, temporary, suffix, dpi=150)


def write(drawn: Figure, path: Path, form: str, dpi: int) -> None:
    """Write a picture in a format of matplotlib; texts in pdf and ps have Type 42 fonts, which can be edited."""
    import matplotlib

    with matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}):
        drawn.savefig(path, dpi=dpi, format=form)


def figure(runs: Sequence[Run], view: View) -> Figure:
    """A panel a metric: training dashed, validation solid, one colour a log, the legend below."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    panels = len(view.metrics)
    width = PANEL if panels == 1 else 7.0 * panels
    grey: list[Artist] = [Line2D([], [], color="0.4", linestyle=STYLES[phase][0], label=phase) for phase in PHASES]
    if any(curves.rate_steps(run, metric, view)[1] for run in runs for metric in view.metrics):
        grey.append(Line2D([], [], color="0.4", marker="v", linestyle="", label="learning rate changes"))
    if any(run.deviations for run in runs):
        grey.append(Patch(color="0.4", alpha=2 * BAND, linewidth=0, label="± standard deviation"))
    logs = [
        Line2D([], [], color=c, linewidth=2.5, label=_shown(run.name))
        for run, c in zip(runs, curves.colours(len(runs)))
    ]
    columns = _columns([*logs, *grey], width)
    rows = -(-(len(logs) + len(grey)) // columns)
    tall = TALL + LEGEND_ROW * max(0, rows - LEGEND_ROWS)
    with matplotlib.rc_context({"text.parse_math": False}):  # names may have $ in them
        drawn = Figure(figsize=(width, tall), layout="constrained")
        for axes, metric in zip(drawn.subplots(1, panels, squeeze=False)[0], view.metrics):
            _panel(axes, runs, metric, view)
        place = {"loc": "outside lower center", "ncols": columns, "fontsize": "small", "frameon": False}
        drawn.legend(handles=[*logs, *grey], **place)
    return drawn


def printable(name: str) -> str:
    """A name, which may be of any bytes, as text that fonts have."""
    return name.encode(errors="backslashreplace").decode()


def _shown(name: str) -> str:
    """A name as a legend shows it: one that begins with _ would be left out."""
    text = printable(name)
    return f" {text}" if text.startswith("_") else text


def _columns(handles: list, width: float) -> int:
    """How many entries of a legend stand side by side."""
    longest = max(len(handle.get_label()) for handle in handles)
    return max(1, min(len(handles), int(width / (0.6 + 0.068 * longest))))


def _panel(axes: Axes, runs: Sequence[Run], metric: str, view: View) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for run, colour in zip(runs, curves.colours(len(runs))):
        for phase, (style, _, opacity) in STYLES.items():
            points = curves.curve(run, phase, metric, view)
            marker = "o" if len(points.x) == 1 else None
            axes.plot(points.x, points.y, style, color=colour, alpha=opacity, marker=marker, linewidth=1.5)
            if run.deviations:
                lower, upper = curves.band(run, phase, metric, points)
                axes.fill_between(points.x, lower, upper, color=colour, alpha=BAND * opacity, linewidth=0)
        steps, texts = curves.rate_steps(run, metric, view)
        axes.plot(steps.x, steps.y, "v", color=colour, markersize=8, markeredgecolor="white", zorder=3)
        if len(runs) == 1:
            top = axes.get_xaxis_transform()
            for x, text in zip(steps.x, texts):
                axes.axvline(x, color="0.6", linestyle=":", linewidth=1, zorder=0)
                axes.text(x, 0.99, f" {text} ", transform=top, rotation=90, ha="right", va="top", fontsize="small")
    axes.set(xlabel=curves.AXES[view.axis], ylabel=curves.LABELS.get(metric, metric))
    if view.axis == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif view.axis == "images":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if metric in curves.LABELS:
        axes.set_ylim(bottom=0)
        axes.margins(x=0.02)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def page(runs: Sequence[Run], view: View) -> Page:
    """The same as a page: dragging zooms, pointing tells values, a click in the legend hides a log."""
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise UserError("pages need plotly: pip install plotly") from error

    titles = [curves.LABELS.get(metric, metric) for metric in view.metrics]
    drawn = make_subplots(rows=1, cols=len(titles), horizontal_spacing=0.07)
    for column, metric in enumerate(view.metrics, 1):
        for run, colour in zip(runs, curves.colours(len(runs))):
            for trace in _traces(run, colour, metric, view, in_legend=column == 1):
                drawn.add_trace(trace, row=1, col=column)
        drawn.update_yaxes(title=titles[column - 1], rangemode="tozero", row=1, col=column)
    drawn.update_xaxes(title=curves.AXES[view.axis])
    legend = {"orientation": "h", "yanchor": "top", "y": -0.1, "x": 0, "groupclick": "togglegroup"}
    title = {"text": PAGE_TITLE, "font": {"size": 14, "color": "#666666"}, "x": 0.02}
    margins = {"l": 70, "r": 30, "t": 50, "b": 40}
    drawn.update_layout(template="plotly_white", title=title, legend=legend, margin=margins, hovermode="closest")
    return drawn


def _traces(run: Run, colour: str, metric: str, view: View, in_legend: bool) -> list:
    from plotly.graph_objects import Scatter

    entry = {"name": run.name, "legendgroup": run.name, "showlegend": in_legend}
    traces = [Scatter(x=[None], y=[None], mode="lines", line={"color": colour, "width": 4}, **entry)]
    for phase, (_, dash, opacity) in STYLES.items():
        points = curves.curve(run, phase, metric, view)
        legend = {"name": f"{run.name} {phase}", "legendgroup": run.name, "showlegend": False}
        line = {"color": colour, "dash": dash, "width": 2}
        told = {"customdata": points.epochs, "hovertemplate": "%{y:.2f} (epoch %{customdata})"}
        if run.deviations:
            traces += _band(points, curves.band(run, phase, metric, points), colour, legend, opacity)
        mode = "markers" if len(points.x) == 1 else "lines"
        traces.append(Scatter(x=points.x, y=points.y, mode=mode, opacity=opacity, line=line, **legend, **told))
    steps, texts = curves.rate_steps(run, metric, view)
    if steps.x:
        marker = {"color": colour, "symbol": "triangle-down", "size": 11, "line": {"color": "white", "width": 1}}
        legend = {"name": f"{run.name} learning rate", "legendgroup": run.name, "showlegend": False}
        told = {"text": texts, "hovertemplate": "%{text} from epoch %{customdata} on", "customdata": steps.epochs}
        traces.append(Scatter(x=steps.x, y=steps.y, mode="markers", marker=marker, **legend, **told))
    return traces


def _band(points: Curve, edges: tuple[list[float], list[float]], colour: str, legend: dict, opacity: float) -> list:
    """The band around a mean, as the space between two lines that are not drawn."""
    from plotly.graph_objects import Scatter

    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    shape = {"x": points.x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", **legend}
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},{BAND * opacity})"}
    lower, upper = edges
    return [Scatter(y=lower, **shape), Scatter(y=upper, **fill, **shape)]
