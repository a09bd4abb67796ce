"""What a device computed, and when, as PyTorch's profiler tells."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.profiler import ProfilerActivity, profile

ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace
LAUNCH = re.compile(r"LaunchKernel|GraphLaunch|Memcpy\w*Async|Memset\w*Async")
# The first that is found in a name is its kind. Those of compiled kernels tell the operations that are fused in them.
KINDS = {
    "optimizer": r"multi_tensor|foreach|optimizer|fused_sgd",
    "metrics and loss": r"argmax|topk|sort|softmax|nll|gather|cross_entropy",
    "copies": r"memcpy|memset|^(?!triton).*(copy|\bindex)|nchwToNhwc|nhwcToNchw|CatArray|convertTensor",
    "BatchNorm and pointwise": r"triton|batch_?norm|bn_|elementwise|reduce|relu|add|mul|sum|mean|threshold|pool",
    "convolution and product": r"conv|cudnn|cutlass|gemm|xmma|fprop|dgrad|wgrad|mkldnn|::mm|addmm|winograd",
}
OTHER = "other"


class Kernel(NamedTuple):
    """One computation: its name, and when it was, in s."""

    name: str
    start: float
    seconds: float


class Trace(NamedTuple):
    """Computations of a device, and how many times something was launched on it."""

    kernels: Sequence[Kernel]
    launches: int

    @property
    def busy(self) -> float:
        """The seconds in which something was computed; what ran at once counts once."""
        busy, end = 0.0, 0.0
        for kernel in sorted(self.kernels, key=lambda one: one.start):
            last = kernel.start + kernel.seconds
            busy += max(0.0, last - max(kernel.start, end))
            end = max(end, last)
        return busy


def record(compute: Callable[[], None], device: str) -> Trace:
    """What ``compute`` has a GPU, or PyTorch on the CPU, do."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "gpu" else [])]
    with profile(activities=activities) as profiler:
        compute()
    return _read_gpu(profiler) if device == "gpu" else _read_cpu(profiler)


def read_trace(events: Sequence[dict]) -> Trace:
    """The events of a Chrome trace, whose times are in microseconds."""
    kernels = [
        Kernel(event["name"], event["ts"] / 1e6, event["dur"] / 1e6) for event in events if event.get("cat") in ON_GPU
    ]
    runtime = [event["name"] for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver")]
    return Trace(kernels, sum(bool(LAUNCH.search(name)) for name in runtime))


def _read_gpu(profiler: profile) -> Trace:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read_trace(json.loads(path.read_text())["traceEvents"])


def _read_cpu(profiler: profile) -> Trace:
    """Operations, each without those that it calls, one after the other: PyTorch's threads count as one."""
    kernels, end = [], 0.0
    for event in profiler.events():
        seconds = event.self_cpu_time_total / 1e6
        if event.name.startswith(("aten::", "mkldnn::")) and seconds > 0:
            kernels.append(Kernel(event.name, end, seconds))
            end += seconds
    return Trace(kernels, 0)


def find_kind(name: str) -> str:
    """What a kernel is for, as far as its name tells."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)
