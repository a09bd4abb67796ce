"""The figures of README.md and docs/performance.md are those that `tools/benchmark.py` wrote to docs/benchmarks."""

import json
import statistics

import pytest
from benchmarks import versus
from benchmarks.way import TASKS

from tests.helpers import REPOSITORY

DOCS = REPOSITORY / "docs"
NETS = {task: json.loads((DOCS / f"benchmarks/{task}.json").read_text())["nets"] for task in TASKS}
TITLES = {way.title: {} for ways in TASKS.values() for way in ways.values()}
for task, ways in TASKS.items():
    for name, way in ways.items():
        TITLES[way.title][task] = name


def lines(path):
    return path.read_text(encoding="utf-8").replace("**", "").splitlines()


def shown(value):
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def median(net, name, of="images/s"):
    return statistics.median(run[of] for run in net[name])


def row(title, cells):
    return "".join(f"| {cell} " if cell else "| " for cell in (title, *cells)) + "|"


@pytest.mark.parametrize("task", TASKS)
def test_the_tables_of_speed_are_as_measured(task):
    found = lines(DOCS / "performance.md")
    for name, way in TASKS[task].items():
        cells = []
        for net in NETS[task]:
            speeds = [run["images/s"] for run in net.get(name, [])]
            spread = (statistics.median(speeds), min(speeds), max(speeds)) if speeds else None
            cells.append("{} ({} to {})".format(*map(shown, spread)) if spread else "")
        assert row(way.title, cells) in found


def test_the_table_of_memory_is_as_measured():
    found = lines(DOCS / "performance.md")
    for name, way in TASKS["train"].items():
        cells = [f"{median(net, name, 'MB'):,.0f}" if name in net else "" for net in NETS["train"]]
        assert row(way.title, cells) in found


PEAKS = {"float32": 244, "bfloat16": 472, "int8": 897}  # GFLOP/s of convolutions, by `tools/benchmark.py peak`
SHARES = {
    "training, bfloat16": ("train", "ours-bfloat16"),
    "training, float32": ("train", "ours-float32"),
    "PyTorch, training, bfloat16": ("train", "torch-bfloat16"),
    "PyTorch, compiled, training, bfloat16": ("train", "compiled-bfloat16"),
    "prediction, int8": ("infer", "ours-int8"),
    "prediction, bfloat16": ("infer", "ours-bfloat16"),
    "prediction, float32": ("infer", "ours-float32"),
    "ONNX Runtime, float32": ("infer", "onnx"),
    "PyTorch, compiled, prediction, bfloat16": ("infer", "compiled-bfloat16"),
}


def test_the_shares_of_the_peak_are_as_measured():
    found = lines(DOCS / "performance.md")
    told = "and {float32} GFLOP/s in float32 (NumPy: 207), 434 and {bfloat16} in bfloat16, 868 and {int8} in int8"
    assert told.format(**PEAKS) in " ".join(found)
    for title, (task, name) in SHARES.items():
        peak = PEAKS[TASKS[task][name].kind]
        work = [versus.gigaflop((net["depth"], net["images"]), task) for net in NETS[task]]
        cells = [f"{each * median(net, name) / peak:.0%}" for each, net in zip(work, NETS[task])]
        assert row(title, [*cells, *[""] * (4 - len(cells))]) in found


def test_the_tables_have_the_nets_in_their_order():
    named = {"train": [(20, 128), (164, 128), (50, 32)], "infer": [(20, 128), (164, 128), (50, 32), (50, 1)]}
    for task, nets in named.items():
        assert [(net["depth"], net["images"]) for net in NETS[task]] == nets
        heads = [f"ResNet-{nets[0][0]}, {nets[0][1]} images", *(f"ResNet-{depth}, {size}" for depth, size in nets[1:])]
        assert row("images/s", heads) in lines(DOCS / "performance.md")


def test_the_table_of_the_readme_is_as_measured():
    found = lines(REPOSITORY / "README.md")
    (large,) = (net for net in NETS["infer"] if (net["depth"], net["images"]) == (50, 32))
    for title, names in TITLES.items():
        pairs = [(net, names.get("train")) for net in NETS["train"]] + [(large, names.get("infer"))]
        assert row(title, [shown(median(net, name)) if name in net else "" for net, name in pairs]) in found
