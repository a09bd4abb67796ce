"""What a training step of ours on PyTorch costs, and where: kernels, launches, gaps, arithmetic and traffic.

Trains on synthetic images as train_resnet.py does, without its loop and log. The time of a step is measured without the
profiler, that of its kernels with it. Arithmetic is counted in the convolutions and the classifier of a step without a
graph, traffic as the inputs and outputs of each of its operations: what fuses them has less.

The net is DEPTH:IMAGES of a PreActResNet, as for `gpu`. The peaks are for an H100: arithmetic as measured, and memory.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import Net, nets, table, write_json
from benchmarks.gpu_nets import describe_run, title, write_records
from mxnet_resnet import engines
from mxnet_resnet.base import files
from mxnet_resnet.base.arguments import integer, number
from mxnet_resnet.data import recordio
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.engines.base import Session, TrainingSpec
from mxnet_resnet.settings.flags import DTYPES
from mxnet_resnet.settings.sections import RunSettings

if TYPE_CHECKING:
    from benchmarks.kernels import Kernel

WARM_UP = 5  # steps, in which the net is compiled and captured
BATCHES = 4  # that are trained on in turn
LONG_RUN = 100_000  # steps, so that --compile auto compiles
HEAVIEST = 12
COMPILATIONS = ("auto", "no", "yes", "max-autotune")


def one_net(text: str) -> Net:
    """``"50:256"`` as depth and images."""
    found = nets(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one net, such as 20:128")
    return found[0]


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--net", type=one_net, default="20:128", help="to train")
    command.add_argument("--steps", type=integer(), default=20, help="that are profiled")
    command.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="to compute in")
    command.add_argument("--compile", choices=COMPILATIONS, default="auto", help="as for a long run")
    command.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="whose time is told")
    command.add_argument("--tflops", type=number(0.001), default=796.0, help="TFLOP/s that the device reaches")
    command.add_argument("--terabytes", type=number(0.001), default=3.0, help="TB/s of its memory")
    command.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    if arguments.json:
        files.check_writable(arguments.json)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the engine tells of compiling
    engine = engines.choose("torch")
    engine.prepare("device", None)
    engine.load()
    from benchmarks.kernels import find_kind, record
    from benchmarks.work import count_work

    settings = describe_run(arguments.net, [0] if arguments.device == "gpu" else [])
    spec = make_spec(settings, arguments.dtype, arguments.compile)
    devices = engine.choose_devices(settings.devices.gpus, None)
    with tempfile.TemporaryDirectory() as folder, engine.join("device", devices) as group:
        model = engine.model(settings.net.plan, spec, devices)
        model.prepare()
        session = model.start(group, None, 0)
        records = write_records(Path(folder), arguments.net, BATCHES * arguments.net[1])
        train = make_training(session, settings, records.train)
        train(WARM_UP)
        started = time.perf_counter()
        train(arguments.steps)
        seconds = (time.perf_counter() - started) / arguments.steps
        trace = record(lambda: train(arguments.steps), arguments.device)
    work = count_work(engine, settings.net.plan, spec)
    figures = {
        "net": title(arguments.net),
        "dtype": arguments.dtype,
        "compile": arguments.compile,
        "images/s": arguments.net[1] / seconds,
        "seconds": seconds,
        "busy": trace.busy / arguments.steps,
        "kernels": len(trace.kernels) / arguments.steps,
        "launches": trace.launches / arguments.steps,
        "operations": work.operations,
        "bytes": work.bytes,
        "by kind": sum_up(trace.kernels, arguments.steps, find_kind),
        "by kernel": sum_up(trace.kernels, arguments.steps, str),
    }
    print(report(figures, arguments.tflops, arguments.terabytes))
    if arguments.json:
        write_json(arguments.json, figures)


def make_spec(settings: RunSettings, dtype: str, compilation: str) -> TrainingSpec:
    """How torch-resnet's example trains, at a constant rate, in a long run."""
    data = settings.data
    return TrainingSpec(
        data.classes,
        data.image_shape,
        settings.batch_size,
        lambda step: 0.01,
        dtype=dtype,
        optimizer=settings.optimizer.name,
        decayed=settings.optimizer.decayed,
        compilation=compilation,
        steps=LONG_RUN,
    )


def make_training(session: Session, settings: RunSettings, path: Path) -> Callable[[int], None]:
    """A function that trains for some steps, and waits for the last one."""
    data = settings.data
    records = TrainingRecords(
        path,
        recordio.scan(path),
        data.image_shape,
        settings.batch_size,
        data.augmentation(),
        data.pad,
        data.mirror,
        settings.seed,
    )
    batches = cycle(list(session.read(records, 0, 0) or records.epoch(0)))
    numbers = count()

    def train(steps: int) -> None:
        for _ in range(steps):
            pending = session.step(next(batches), next(numbers))
        pending.result()

    return train


def sum_up(kernels: Sequence[Kernel], steps: int, name: Callable[[str], str]) -> dict[str, dict[str, float]]:
    """Seconds and kernels a step, by what ``name`` makes of a kernel's name, the heaviest first."""
    seconds: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        seconds[name(kernel.name)] += kernel.seconds / steps
    number = Counter(name(kernel.name) for kernel in kernels)
    heaviest = sorted(seconds, key=seconds.__getitem__, reverse=True)
    return {one: {"seconds": seconds[one], "kernels": number[one] / steps} for one in heaviest}


def report(figures: dict, tflops: float, terabytes: float) -> str:
    """What bounds a step, what it does by kind, and the heaviest kernels."""
    whole = figures["seconds"]
    arithmetic, traffic = figures["operations"] / tflops / 1e12, figures["bytes"] / terabytes / 1e12
    bounds = (
        ("busy", figures["busy"], f"{figures['kernels']:,.0f} kernels, {figures['launches']:,.0f} launches"),
        ("gaps", max(0.0, whole - figures["busy"]), ""),
        ("arithmetic alone", arithmetic, f"{figures['operations'] / 1e9:,.1f} GFLOP at {tflops:g} TFLOP/s"),
        ("traffic alone, nothing fused", traffic, f"{figures['bytes'] / 1e9:,.2f} GB at {terabytes:g} TB/s"),
    )
    shared = ("", "ms", "of the step", "")
    heading = f"A step of {figures['net']} images: {1000 * whole:.3f} ms, {figures['images/s']:,.0f} images/s"
    parts = [heading, table(shared, [[name, *_share(time, whole), why] for name, time, why in bounds])]
    for key, most in (("by kind", None), ("by kernel", HEAVIEST)):
        rows = [
            [_shorten(name), *_share(found["seconds"], whole), f"{found['kernels']:,.1f}"]
            for name, found in list(figures[key].items())[:most]
        ]
        parts.append(table((key, "ms", "of the step", "kernels"), rows))
    return "\n\n".join(parts)


def _share(seconds: float, whole: float) -> tuple[str, str]:
    return f"{1000 * seconds:.3f}", f"{seconds / whole:.0%}"


def _shorten(name: str) -> str:
    """A kernel's name that fits a table."""
    name = name.replace("|", " ")
    return name if len(name) <= 70 else f"{name[:67]}..."
