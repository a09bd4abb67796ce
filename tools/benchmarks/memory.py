"""The memory and the time of training with mirror plans.

Plans ResNet-v2 of --nets, each DEPTH:IMAGES, measures the time of a step, and compares with the figures of the MXNet
ResNet-v2 repository; measures the time under several plans, in turn (--curves), and the peak memory of fresh processes
that train (--peaks); and plans nets of many --depths. Depths that ImageNet has not are those of nets for CIFAR.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.common import (
    Net,
    data_type,
    in_process,
    nets,
    peak_memory,
    save,
    spread,
    table,
    title,
    write_json,
)
from benchmarks.prepared import mx
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.engines.mxnet.memory import memonger, mirrorgraph, mirrorplan
from mxnet_resnet.plans import architecture

# Planned MB of the MXNet ResNet-v2 repository with its own mirror plan, by (depth, images), measured with MXNet 1.9.1.
ORIGINAL = {(50, 32): 1219, (152, 32): 1636, (200, 32): 1673, (164, 128): 830, (1001, 64): 863}
CURVE_POINTS = 7


def add_arguments(memory: argparse.ArgumentParser) -> None:
    memory.add_argument("--nets", type=nets, default="50:32,152:32,200:32,164:128,1001:64", help="to plan for")
    memory.add_argument("--curves", type=nets, default="50:16,200:4", help="to measure memory against time of")
    memory.add_argument("--peaks", type=nets, default="50:16,200:8,164:64", help="to measure processes of")
    memory.add_argument("--depths", type=nets, default="164,245,326,488,650,812,1001", help="of CIFAR nets to plan for")
    memory.add_argument("--runs", type=integer(), default=5, help="steps of each plan")
    memory.add_argument("--json", type=Path, help="write the figures here too")
    memory.add_argument("--out", type=Path, help="folder to draw memory-time.png and memory-depth.png in")


def main(arguments: argparse.Namespace) -> None:
    bar = tqdm(total=sum(len(getattr(arguments, name)) for name in ("nets", "curves", "peaks", "depths")), disable=None)
    figures: dict[str, list[dict]] = {}
    for name, measure in (("nets", compared), ("curves", curve), ("peaks", peaks), ("depths", planned)):
        figures[name] = []
        for net in getattr(arguments, name):
            figures[name].append(in_process(measure, net, arguments.runs))
            bar.update()
    bar.close()
    print(report(figures))
    if arguments.json:
        write_json(arguments.json, figures)
    if arguments.out:
        draw(figures, arguments.out)


def network(net: Net) -> tuple[mx.sym.Symbol, dict[str, tuple[int, ...]]]:
    """The published net of a depth with 10 classes, and the shapes of its inputs."""
    depth, batch = net
    stem, side = ("imagenet", 224) if data_type(depth) == "imagenet" else ("cifar", 32)
    symbol = symbols.softmax(models.from_architecture(architecture.symbolic_v2(depth, stem), 10))
    return symbol, {"data": (batch, 3, side, side), "softmax_label": (batch,)}


def planned(net: Net, runs: int) -> dict:
    """Planned MB without and with a plan."""
    return described(net, memonger.plan(*network(net)))


def compared(net: Net, runs: int) -> dict:
    """Planned MB without and with a plan and of the original, and the extra time of the plan."""
    symbol, shapes = network(net)
    started = time.perf_counter()
    plan = memonger.plan(symbol, shapes)
    search = time.perf_counter() - started
    before, after = rounds([symbol, plan.apply(symbol)], shapes, runs)
    return {**described(net, plan), "search": search, "original": ORIGINAL.get(net), "extra": extra(after, before)}


def described(net: Net, plan: memonger.Plan) -> dict:
    before, after, expected = plan.megabytes_before, plan.megabytes, plan.extra_time
    return {"depth": net[0], "batch": net[1], "before": before, "planned": after, "expected": expected}


def curve(net: Net, runs: int) -> dict:
    """Planned MB and seconds a step of some plans: none, several budgets, the least, and one that keeps all sums."""
    symbol, shapes = network(net)
    least = memonger.plan(symbol, shapes)
    budgets = np.linspace(least.megabytes, least.megabytes_before, CURVE_POINTS)[1:-1]
    plans = [memonger.plan(symbol, shapes, budget) for budget in (least.megabytes_before, *budgets[::-1])]
    plans += [least, all_sums(symbol, shapes)]
    seconds = rounds([plan.apply(symbol) for plan in plans], shapes, runs)
    points = [
        {**described(net, plan), "seconds": values, "extra": extra(values, seconds[0])}
        for plan, values in zip(plans, seconds)
    ]
    return {"depth": net[0], "batch": net[1], "points": points[:-1], "all sums": points[-1]}


def rounds(graphs: Sequence[mx.sym.Symbol], shapes: dict[str, tuple[int, ...]], runs: int) -> list[list[float]]:
    """Seconds of a step of each graph, in turn, ``runs`` times after a first one."""
    modules = [bound(graph, shapes) for graph in graphs]
    seconds = [[step(module, shapes) for module in modules] for _ in range(runs + 1)]
    return [list(values) for values in zip(*seconds[1:])]


def extra(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """The extra time in percent, in pairs of the same round, which see the same load of the machine."""
    return [100 * (one / other - 1) for one, other in zip(values, base)]


def all_sums(symbol: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]]) -> memonger.Plan:
    """The plan that keeps the residual sums, and computes all else again."""
    blocks = mirrorplan.Blocks(mirrorgraph.OperatorGraph(symbol, shapes))
    segments = blocks.sums()
    marks = blocks.marks(segments)
    with memonger.packing():
        megabytes = memonger.bound_megabytes(mirrorgraph.marked(symbol, marks), shapes)
        before = memonger.bound_megabytes(symbol, shapes)
    extra = 100 * blocks.time(segments) / blocks.graph.step_time
    return memonger.Plan(before, megabytes, extra, tuple(map(blocks.name, segments)), marks)


def bound(symbol: mx.sym.Symbol, shapes: dict[str, tuple[int, ...]]) -> mx.mod.Module:
    module = mx.mod.Module(symbol, label_names=["softmax_label"])
    with memonger.packing():
        module.bind([("data", shapes["data"])], [("softmax_label", shapes["softmax_label"])])
    module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    return module


def step(module: mx.mod.Module, shapes: dict[str, tuple[int, ...]]) -> float:
    """Seconds of a forward and a backward pass."""
    images = mx.nd.random.uniform(0, 255, shapes["data"])
    batch = mx.io.DataBatch([images], [mx.nd.zeros(shapes["softmax_label"])])
    mx.nd.waitall()
    started = time.perf_counter()
    module.forward_backward(batch)
    mx.nd.waitall()
    return time.perf_counter() - started


def peaks(net: Net, runs: int) -> dict:
    """Peak resident MB of fresh processes that make two steps, without and with a plan."""
    symbol, shapes = network(net)
    plan = memonger.plan(symbol, shapes)
    process = {name: in_process(peak, net, used) for name, used in (("before", None), ("planned", plan))}
    return {**described(net, plan), "process": process}


def peak(net: Net, plan: memonger.Plan | None) -> float:
    """The most memory that this process has had, in MB, after two steps of training."""
    symbol, shapes = network(net)
    module = bound(plan.apply(symbol) if plan else symbol, shapes)
    for _ in range(2):
        step(module, shapes)
    return peak_memory()


def report(figures: dict[str, list[dict]]) -> str:
    """The figures as Markdown."""
    parts = []
    if figures["nets"]:
        heads = ("net, images", "MB", "MB with the plan", "original's MB", "ratio", "expected time", "measured, %")
        parts.append(table(heads, [net_row(net) for net in figures["nets"]]))
        parts.append(f"Searched in {', '.join(format(net['search'], '.0f') for net in figures['nets'])} seconds.")
    for found in figures["curves"]:
        heads = ("plan", "MB", "of all", "expected time", "measured, %", "s a step")
        rows = [point_row("", point) for point in found["points"]]
        rows.append(point_row("all sums kept", found["all sums"]))
        parts += [f"ResNet-{found['depth']}, {found['batch']} images", table(heads, rows)]
    if figures["peaks"]:
        heads = ("net, images", "planned MB", "with the plan", "peak of the process", "with the plan", "saved")
        parts.append(table((*heads, "planned to be"), [peak_row(net) for net in figures["peaks"]]))
    if figures["depths"]:
        parts.append(table(("depth", "MB", "MB with the plan", "by sqrt(depth)"), map(depth_row, figures["depths"])))
    return "\n\n".join(parts)


def named(figures: dict) -> str:
    return title((figures["depth"], figures["batch"]))


def net_row(net: dict) -> list[str]:
    original = net["original"]
    by_original = [f"{original:,}", f"{net['planned'] / original:.2f}"] if original else ["", ""]
    megabytes = [f"{net[key]:,}" for key in ("before", "planned")]
    return [named(net), *megabytes, *by_original, f"{net['expected']:+.0f}%", spread(net["extra"], "+.0f")]


def point_row(name: str, point: dict) -> list[str]:
    times = [f"{point['expected']:+.0f}%", spread(point["extra"], "+.0f"), spread(point["seconds"], ".2f")]
    return [name, f"{point['planned']:,}", f"{point['planned'] / point['before']:.0%}", *times]


def peak_row(net: dict) -> list[str]:
    values = [net["before"], net["planned"], net["process"]["before"], net["process"]["planned"]]
    return [named(net), *(f"{value:,.0f}" for value in (*values, values[2] - values[3], values[0] - values[1]))]


def depth_row(net: dict) -> list[str]:
    root = net["planned"] / net["depth"] ** 0.5
    return [f"{net['depth']}", f"{net['before']:,}", f"{net['planned']:,}", f"{root:.1f}"]


def draw(figures: dict[str, list[dict]], folder: Path) -> None:
    """memory-time.png and memory-depth.png, where there are figures for them."""
    if figures["curves"]:
        draw_curves(figures["curves"], folder / "memory-time.png")
    if figures["depths"]:
        draw_depths(figures["depths"], folder / "memory-depth.png")


def draw_curves(curves: Sequence[dict], out: Path) -> None:
    """Memory against time, a panel a net."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(curves), 4.4), layout="constrained")
    for axes, found in zip(np.atleast_1d(figure.subplots(1, len(curves))), curves):
        points = sorted(found["points"], key=lambda point: point["planned"])
        memory = [point["planned"] for point in points]
        axes.plot(memory, [point["expected"] for point in points], "--", color="0.55", label="expected")
        axes.plot(memory, [statistics.median(point["extra"]) for point in points], "o-", color="C0", label="measured")
        sums = found["all sums"]
        most = statistics.median(sums["extra"])
        axes.plot(sums["planned"], most, "s", color="C1", markersize=8, label="all sums kept")
        axes.axhline(memonger.MOST_EXTRA_TIME, color="0.8", linewidth=1)
        axes.set(xlabel="planned activation memory (MB)", ylabel="extra time per step (%)")
        axes.set_title(f"ResNet-{found['depth']}, {found['batch']} images of 224x224", fontsize="medium")
        axes.set_xlim(left=0)
        axes.set_ylim(-5, 40)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, out)


def draw_depths(found: Sequence[dict], out: Path) -> None:
    """Memory against depth, both logarithmic, with the lines of the first and second root of it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    depths = np.array([net["depth"] for net in found], float)
    for key, colour, name, power in (("before", "C3", "all kept", 1.0), ("planned", "C0", "with the plan", 0.5)):
        memory = np.array([net[key] for net in found], float)
        factor = np.exp(np.mean(np.log(memory / depths**power)))
        slope = np.polyfit(np.log(depths), np.log(memory), 1)[0]
        law = "depth" if power == 1 else "sqrt(depth)"
        axes.plot(depths, factor * depths**power, "--", color=colour, alpha=0.6, label=f"{factor:.1f} MB x {law}")
        axes.plot(depths, memory, "o", color=colour, label=f"{name} (slope {slope:.2f})")
    axes.set(xscale="log", yscale="log", xlabel="depth", ylabel="planned activation memory (MB)")
    axes.set_title(f"CIFAR ResNet-v2, {found[0]['batch']} images", fontsize="medium")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(depths, [f"{depth:.0f}" for depth in depths])
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    save(figure, out)
