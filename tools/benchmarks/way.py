"""One way to train or to predict, in a process and an environment of its own.

`python -m benchmarks.way WAY DEPTH IMAGES SECONDS`, started in tools/, prints the figures of `WAYS[WAY]` as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from benchmarks.common import TOOLS, Net, not_installed, output, peak_memory, title
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import run

CORES = cores()
WARM_UP = 3  # steps: the first choose kernels and allocate
LEAST = 3  # steps that are measured, whatever they take

Step = Callable[[], object]  # which returns when its result is there


@dataclass(frozen=True)
class Way:
    """A function ``make(depth, images, kind)`` of a module here, which gives a step.

    Attributes:
        title: what a table calls it.
        make: ``module:function``.
        kind: what the function is to make of the net.
        needs: the packages without which there is no such way.
        environment: what it runs in, besides that of this process.
        depths: of the nets that there are, or empty: all.
        hindrances: tells what else is not there that it needs.
    """

    title: str
    make: str
    kind: str
    needs: tuple[str, ...] = ("mxnet",)
    environment: dict[str, str] = field(default_factory=dict)
    depths: tuple[int, ...] = ()
    hindrances: Callable[[], list[str]] = list

    def lacks(self) -> list[str]:
        """Why it is not here: a sentence for each reason."""
        return [*not_installed(self.needs), *self.hindrances()]

    def goes(self, depth: int) -> bool:
        """Whether it is here, for a net of that depth."""
        return not self.lacks() and (not self.depths or depth in self.depths)


def _no_bfloat16() -> list[str]:
    from mxnet_resnet.engines.mxnet.compat import has_bfloat16  # makes the process ready for MXNet alone

    return [] if has_bfloat16() else ["this CPU has no AVX512-BF16 for MXNet's bfloat16"]


def _no_compiler() -> list[str]:
    return [] if shutil.which("g++") else ["g++ is not installed, with which PyTorch compiles"]


# MXNet takes half of the cores, unless it is told; compat.py tells it.
MXNET_DEFAULTS = {"OMP_NUM_THREADS": str(max(CORES // 2, 1))}
ALL_CORES = {"OMP_NUM_THREADS": str(CORES)}
ZOO_DEPTHS = (18, 34, 50, 101, 152)
# PyTorch asks the C library for the arrays of each step, which by default gets them from the kernel page by page, again
# and again: half of the time of some nets. MXNet keeps its arrays.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**29)}
TORCH = {
    "needs": ("torch", "torch_resnet"),
    "environment": KEEP_MEMORY,
    "depths": (18, 20, 32, 34, 44, 50, 56, 101, 110, 152, 164, 200, 1001),
}
COMPILED = {**TORCH, "hindrances": _no_compiler}


def _torch(step: str) -> dict[str, Way]:
    """PyTorch's ways to train or to predict, in both types, as it stands and compiled."""
    return {
        f"{name}-{dtype}": Way(f"{title}, {dtype}", f"torch_peers:{make}", dtype, **more)
        for name, title, make, more in (
            ("torch", "torch-resnet", step, TORCH),
            ("compiled", "torch-resnet, compiled", f"compiled_{step}", COMPILED),
        )
        for dtype in ("bfloat16", "float32")
    }


TRAIN = {
    "ours-bfloat16": Way("ours, bfloat16", "ours:training", "bfloat16", hindrances=_no_bfloat16),
    "ours-float32": Way("ours, float32", "ours:training", "float32"),
    "ours-memonger": Way("ours, bfloat16, --memonger", "ours:frugal_training", "bfloat16", hindrances=_no_bfloat16),
    "original": Way("MXNet Symbol, its defaults", "mxnet_peers:symbol_training", "", environment=MXNET_DEFAULTS),
    "zoo": Way("Gluon zoo, all cores", "mxnet_peers:zoo_training", "", environment=ALL_CORES, depths=ZOO_DEPTHS),
    **_torch("training"),
}
INFER = {
    "ours-int8": Way("ours, int8", "ours:prediction", "int8"),
    "ours-bfloat16": Way("ours, bfloat16", "ours:prediction", "bfloat16", hindrances=_no_bfloat16),
    "ours-float32": Way("ours, float32", "ours:prediction", "float32"),
    "zoo": Way("Gluon zoo, all cores", "mxnet_peers:zoo_prediction", "", environment=ALL_CORES, depths=ZOO_DEPTHS),
    "onnx": Way("ONNX Runtime, float32", "onnx_peers:prediction", "float32", ("onnx", "onnxruntime")),
    **_torch("prediction"),
}
TASKS = {"train": TRAIN, "infer": INFER}
WAYS = {f"{task}:{name}": way for task, ways in TASKS.items() for name, way in ways.items()}


def measure(way: str, net: Net, seconds: int) -> dict[str, float]:
    """Images/s of some seconds, and the peak memory of the process in MB. Raises UserError where it fails."""
    arguments = [sys.executable, "-m", "benchmarks.way", way, *map(str, net), str(seconds)]
    printed = output(f"{WAYS[way].title}, on {title(net)},", arguments, WAYS[way].environment, TOOLS)
    return json.loads(printed.splitlines()[-1])


def main(name: str, depth: str, images: str, seconds: str) -> None:
    module, function = WAYS[name].make.split(":")
    make = getattr(import_module(f"benchmarks.{module}"), function)
    step: Step = make(int(depth), int(images), WAYS[name].kind)
    for _ in range(WARM_UP):
        step()
    steps, started = 0, time.perf_counter()
    while steps < LEAST or time.perf_counter() - started < int(seconds):
        step()
        steps += 1
    speed = steps * int(images) / (time.perf_counter() - started)
    print(json.dumps({"images/s": speed, "MB": peak_memory()}))


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]))
