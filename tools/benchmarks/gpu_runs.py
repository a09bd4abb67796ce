"""Our training on a GPU, measured through train_resnet.py itself: its data, metrics and log included."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

from benchmarks.common import ROOT, Net, check_status
from benchmarks.gpu_nets import Records, data_type, title
from mxnet_resnet.base.errors import UserError

EPOCHS = 4  # of which the first has the start, and is left out
COMPILED = re.compile(r"[Cc]ompiled\D* in ([\d.]+) s")


@dataclass(frozen=True)
class Run:
    """What is asked of train_resnet.py.

    Attributes:
        net: depth and images a step.
        seeds: how many runs there are.
        engine: torch or mxnet.
        device: ``"gpu"`` or ``"cpu"``.
        dtype: to compute in.
        compilation: a value of --compile; empty for an engine that does not compile.
    """

    net: Net
    seeds: int = 1
    engine: str = "torch"
    device: str = "gpu"
    dtype: str = "bfloat16"
    compilation: str = "yes"

    def command(self, records: Records, folder: Path) -> list[str]:
        """The command; checkpoints and logs are to be in ``folder``."""
        depth, images = self.net
        seeds = [str(111 * (number + 1)) for number in range(self.seeds)]
        words = (
            f"train_resnet.py --engine {self.engine} --gpus {0 if self.device == 'gpu' else 'none'}"
            f" --dtype {self.dtype} --data-type {data_type(depth)} --network preact_resnet{depth} --aug-level 1"
            f" --batch-size {images} --epochs {EPOCHS} --keep 1"
            " --optimizer sgd --wd-on weights --lr 0.01 --lr-steps none"
        ).split()
        words += ["--compile", self.compilation] if self.compilation else []
        words += ["--seeds", ",".join(seeds)] if self.seeds > 1 else ["--seed", seeds[0]]
        paths = (records.train, records.val, folder / "net", folder / "log")
        for flag, path in zip(("data-train", "data-val", "model-prefix", "log-dir"), paths):
            words += [f"--{flag}", str(path)]
        return [sys.executable, *words]


def measure(run: Run, name: str, records: Records, folder: Path, seconds: float) -> dict[str, float]:
    """Images/s over all seeds, and what a log tells of the time besides, in s.

    Raises UserError where the run fails or takes more than ``seconds``.
    """
    started = time.perf_counter()
    lines = watch(f"{name} of {title(run.net)},", run.command(records, folder), seconds)
    whole = time.perf_counter() - started
    metrics = [_read_training(path) for path in sorted((folder / "log").glob("*/metrics.jsonl"))]
    if len(metrics) != run.seeds:
        raise UserError(f"{name} of {title(run.net)} left the metrics of {len(metrics)} runs, not of {run.seeds}")
    at_once = run.device == "gpu" and run.engine == "torch"
    return {"images/s": compute_speed(metrics, at_once), **read_times(lines, run.seeds), "seconds": whole}


def watch(name: str, command: Sequence[str], seconds: float) -> list[tuple[float, str]]:
    """The lines of a command's log with the time of each, in s since its start. Raises UserError where it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = _read_lines(process, process.stderr, started, seconds)
    if process.returncode < 0 and time.perf_counter() - started >= seconds:
        raise UserError(f"{name} took more than {seconds:.0f} s")
    check_status(name, process.returncode, [line for _, line in lines])
    return lines


def _read_lines(process: subprocess.Popen, log: IO[str], started: float, seconds: float) -> list[tuple[float, str]]:
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        return [(time.perf_counter() - started, line.rstrip("\n")) for line in log]
    finally:
        timer.cancel()
        process.kill()  # where this is left by an exception; else it has ended


def compute_speed(metrics: Sequence[Sequence[dict]], at_once: bool) -> float:
    """Images/s over the seeds, from the second epoch on; their epochs run ``at_once`` or one after the other."""
    images, seconds = 0, 0.0
    for epochs in zip(*(run[1:] for run in metrics)):
        times = [epoch["seconds"] for epoch in epochs]
        images += sum(epoch["images"] for epoch in epochs)
        seconds += max(times) if at_once else sum(times)
    return images / seconds


def read_times(lines: Sequence[tuple[float, str]], seeds: int) -> dict[str, float]:
    """Seconds of compilation and up to the first epoch, and, of a single seed, of the last validation."""
    compiled = [float(found.group(1)) for _, line in lines if (found := COMPILED.search(line))]
    times = {"compiled": sum(compiled)} if compiled else {}
    begun = [moment for moment, line in lines if "Learning rate=" in line]
    if begun:
        times["started"] = begun[0]
    saved = [moment for moment, line in lines if "Saved checkpoint" in line]
    validated = [moment for moment, line in lines if "Validation-" in line]
    if seeds == 1 and saved and validated:
        times["validated"] = next(moment for moment in validated if moment > saved[-1]) - saved[-1]
    return times


def _read_training(path: Path) -> list[dict]:
    """What a run noted of the training of its epochs."""
    return [note for note in map(json.loads, path.read_text().splitlines()) if note["phase"] == "train"]
