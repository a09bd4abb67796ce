"""What all benchmarks share: nets by their depth, fresh processes, tables, files and pictures."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.plans import architecture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOOLS = Path(__file__).resolve().parents[1]
ROOT = TOOLS.parent
DEPTH_BATCH = 64  # images of a net that is named by its depth alone
TORCH = "pip install -r requirements-torch.txt"
ONNX = "pip install --no-deps -r requirements-onnx.txt"
TORCH_RESNET = "pip install --no-deps torch-resnet==0.0.4"
DALI = "pip install nvidia-dali-cuda120 nvidia-nvimgcodec-cu12"
INSTALL = {"torch": TORCH, "torch_resnet": TORCH_RESNET, "onnx": ONNX, "onnxruntime": ONNX, "nvidia.dali": DALI}

Net = tuple[int, int]  # depth, images


def nets(text: str) -> list[Net]:
    """``"50:32,164"`` as depths and batches; ``""`` is none."""
    parts = [part for part in text.split(",") if part]
    if not all(re.fullmatch(r"\d+(:\d+)?", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 50:32,164:128")
    return [(int(depth), int(batch or DEPTH_BATCH)) for depth, _, batch in (part.partition(":") for part in parts)]


def title(net: Net) -> str:
    """``ResNet-50, 32``."""
    return f"ResNet-{net[0]}, {net[1]}"


def data_type(depth: int) -> str:
    """What a net of a depth is for: depths that ImageNet has not are those of nets for CIFAR."""
    return "imagenet" if depth in architecture.IMAGENET_UNITS else "cifar10"


def in_process(measure: Callable, *arguments: object) -> Any:
    """What a function returns in a fresh process, which gives all of its memory back.

    Raises UserError where the process is killed, as where the memory is not enough.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError(f"the process that measured {arguments} was killed: was the memory enough?") from error


def output(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """What a command prints. Raises UserError, with the last line that it wrote, where it fails."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    check_status(name, done.returncode, done.stderr.splitlines())
    return done.stdout


def check_status(name: str, status: int, errors: Sequence[str]) -> None:
    """Raise UserError for a process that failed, with the last of the lines that it wrote."""
    if status < 0:
        raise UserError(f"{name} was ended by {signal.Signals(-status).name}")
    if status:
        said = [line for line in errors if line.strip()] or [f"status {status}"]
        raise UserError(f"{name} failed: {said[-1].strip().removeprefix('error: ')}")


def not_installed(packages: Iterable[str]) -> list[str]:
    """A sentence for each package that is not there: how it is installed."""
    missing = [package for package in packages if not _is_there(package)]
    return [f"{package} is not installed ({INSTALL.get(package, f'pip install {package}')})" for package in missing]


def _is_there(package: str) -> bool:
    outer = package.rpartition(".")[0]  # which would be imported
    return (not outer or _is_there(outer)) and find_spec(package) is not None


def tell_left_out(peer: str, reasons: Iterable[str]) -> None:
    """Why a peer is left out, if it is."""
    if told := "; ".join(reasons):
        print(f"left out: {peer}: {told}", file=sys.stderr)


def peak_memory() -> float:
    """The most memory that this process has had, in MB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024


def spread(values: Sequence[float], form: str = ",.1f") -> str:
    """The median, and the lowest and the highest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_json(path: Path, figures: object) -> None:
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(figures, indent=1) + "\n")


def save(figure: Figure, out: Path) -> None:
    """Write a picture, whole or not at all."""
    with replacing(out) as (temporary,):
        figure.savefig(temporary, dpi=150, format="png")


def read_memory() -> tuple[float, float]:
    """MB that this process and its children have, what they share counted once, and how much of it is shared memory."""
    children = Path("/proc/self/task").glob("*/children")
    processes = {"self", *(process for file in children for process in file.read_text().split())}
    texts = [Path(f"/proc/{process}/smaps_rollup").read_text() for process in processes]
    resident, shared = (
        sum(int(found[1]) for text in texts if (found := re.search(rf"{name}:\s+(\d+) kB", text)))
        for name in ("Pss", "Pss_Shmem")
    )
    return resident / 1024, shared / 1024
