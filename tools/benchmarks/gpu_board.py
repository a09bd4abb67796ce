"""The figures of `benchmark.py gpu`, printed as they come, and what there is none of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import Net, table, write_json
from benchmarks.gpu_nets import title
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing

TRAINING, PREDICTION = "training", "prediction"
LONGEST = 120  # seconds of one figure, compilers included
SHORTEST = 10  # seconds without which no process is started

Figure = Mapping[str, float]


@dataclass
class Board:
    """Figures, until the time is over.

    Attributes:
        ends: when that is, by time.perf_counter.
        references: the ways, one a task, that others are compared with.
        failed, late: sentences on what failed, and on what there was no time for.
    """

    ends: float
    references: Mapping[str, str]
    figures: list[dict] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        return self.ends - time.perf_counter()

    def measure(
        self, net: Net, task: str, way: str, seeds: int, compute: Callable[[float], Figure], least: float = SHORTEST
    ) -> None:
        """Take what ``compute`` gives within so many seconds, ``least`` or more, or note why there is nothing."""
        what = describe(net, task, way, seeds)
        if self.seconds_left < least:
            self.late.append(what)
            return
        try:
            found = compute(min(self.seconds_left, LONGEST))
        except UserError as error:
            if self.seconds_left <= 0:
                self.late.append(what)
            else:
                self.failed.append(str(error))
                print(f"left out: {error}", file=sys.stderr, flush=True)
            return
        names = {"net": title(net), "depth": net[0], "images": net[1], "task": task, "way": way, "seeds": seeds}
        self.figures.append({**names, **found})
        print(f"{what}: {found['images/s']:,.0f} images/s{_describe_times(found)}", flush=True)

    def write(self, machine: Mapping[str, object], figures: Path | None, tables: Path | None) -> None:
        """All figures so far, as JSON and as Markdown."""
        if figures:
            lists = {"figures": self.figures, "failed": self.failed, "no time for": self.late}
            write_json(figures, {"environment": machine, **lists})
        if tables:
            with replacing(tables) as (temporary,):
                facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
                temporary.write_text(f"{self.report()}\n\n{facts}\n", encoding="utf-8")

    def report(self) -> str:
        """A table a net and task, a row a figure, and what is left out."""
        parts = []
        for net, task in dict.fromkeys((figure["net"], figure["task"]) for figure in self.figures):
            found = [figure for figure in self.figures if (figure["net"], figure["task"]) == (net, task)]
            parts += [f"{net} images, {task}", self._tabulate(found)]
        parts += [f"Left out: {error}" for error in self.failed]
        parts += [f"No time was left for {what}" for what in self.late]
        return "\n\n".join(parts)

    def _tabulate(self, found: list[dict]) -> str:
        """Images/s over all seeds, and how many times those of the reference that is."""
        by_way = {figure["way"]: figure["images/s"] for figure in found if figure["seeds"] == 1}
        base = by_way.get(self.references[found[0]["task"]])
        rows = [
            [
                figure["way"],
                str(figure["seeds"]),
                f"{figure['images/s']:,.0f}",
                f"{figure['images/s'] / base:.2f}" if base else "",
                *(f"{figure[name]:.1f}" if name in figure else "" for name in ("compiled", "validated")),
            ]
            for figure in found
        ]
        return table(("", "seeds", "images/s", "of the reference", "s to compile", "s to validate"), rows)


def describe(net: Net, task: str, way: str, seeds: int) -> str:
    """What a figure is of."""
    return f"{title(net)}: {task}, {way}, {seeds} seed{'s' if seeds > 1 else ''}"


def _describe_times(found: Figure) -> str:
    words = {
        "compiled": "compiled in {:.0f} s",
        "prepared": "ready after {:.0f} s",
        "started": "the first epoch began after {:.0f} s",
        "validated": "a validation took {:.2f} s",
        "seconds": "{:.0f} s in all",
    }
    told = [text.format(found[name]) for name, text in words.items() if name in found]
    return f" ({'; '.join(told)})" if told else ""
