#!/usr/bin/env python3
"""Plot training curves from logs: `python log/plot_curve.py --logs=a.log,b.log --out=curve.png`.

Top-1 error in percent over epochs, training dashed, validation solid, one colour a log. Reads the logs of this project,
of the MXNet ResNet-v2 repository, of Module.fit and of GluonCV.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mxnet_resnet import logbook
from mxnet_resnet.arguments import Parser
from mxnet_resnet.errors import UserError, run
from mxnet_resnet.files import replacing


def draw(runs: list[logbook.Run], out: Path) -> None:
    """Draw the curves of ``runs`` to ``out``, in the format that its suffix names."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    colours = colormaps["turbo"]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for index, run_ in enumerate(runs):
        colour = colours(index / max(1, len(runs) - 1)) if len(runs) > 10 else f"C{index}"
        for phase, style in (("train", "--"), ("validation", "-")):
            curve = run_.curve(phase)
            if curve:
                marker = "o" if len(curve) == 1 else None
                axes.plot(*zip(*curve), style, color=colour, marker=marker, linewidth=1.5, label=f"{run_.name} {phase}")
    axes.set(xlabel="epoch", ylabel="top-1 error (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=1 + len(runs) // 8)
    formats = figure.canvas.get_supported_filetypes()
    suffix = out.suffix[1:].lower()
    if suffix not in formats:
        raise UserError(f"cannot draw to {out}: its name has to end in one of {', '.join(sorted(formats))}")
    with replacing(out) as (temporary,):
        figure.savefig(temporary, dpi=150, format=suffix)


def summary(run_: logbook.Run) -> str:
    """``top-1 error 1.39% (best 1.11%)`` of the validation, or of the training where there is no validation."""
    curve = run_.curve("validation") or run_.curve("train")
    best = min(error for _, error in curve)
    return f"top-1 error {curve[-1][1]:.2f}% (best {best:.2f}%)"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--logs", required=True, help="logs, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("curve.png"), help="the picture")
    arguments = parser.parse_args()

    runs = [logbook.read(Path(name)) for name in arguments.logs.split(",")]
    for run_ in runs:
        if not run_.curve("validation") and not run_.curve("train"):
            raise UserError(f"the log of {run_.name} has no curve in it: it tells no top-1 error or accuracy")
    draw(runs, arguments.out)
    for run_ in runs:
        name = f"{run_.name}: " if len(runs) > 1 else ""
        print(f"{name}{summary(run_)}, curve {arguments.out}")


if __name__ == "__main__":
    run(main)
