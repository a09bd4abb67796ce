"""This process: its share of the machine, versions and memory for a log and a report, variables of its environment."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.cgroups import read_cpu_quota

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Within it, the variable ``name`` of the environment is ``value``."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def cores() -> int:
    """The processors that this process may use: those it is bound to, and no more than its container has time on."""
    bound, quota = count_bound_cores(), read_cpu_quota()
    return bound if quota >= bound else max(1, math.ceil(quota))


def count_bound_cores() -> int:
    """The processors that this process is bound to, whatever its container has time on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_busy_cores(seconds: float = 0.3) -> int:
    """Of the processors that this process is bound to, those that others keep busy, looked at for ``seconds``; 0 where
    the system does not tell (Linux's /proc/stat).

    It computes meanwhile, lest two that look at the same time take each other for idle.
    """
    before, own, started = _read_busy(), time.process_time(), time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        pass
    return max(0, round((_read_busy() - before - (time.process_time() - own)) / passed))


def _read_busy(file: Path = Path("/proc/stat")) -> float:
    """Seconds that the processors of this process have computed for anyone since the start; 0 where untold."""
    if not file.exists() or not hasattr(os, "sched_getaffinity"):
        return 0.0
    bound = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in file.read_text().splitlines())
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two (proc(5))
    ticks = (sum(map(int, (*words[1:4], *words[6:9]))) for words in lines if words and words[0] in bound)
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """Versions and settings that figures may depend on."""
    return {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "Platform": platform.platform(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
    }


def memory() -> dict[str, float]:
    """The most main memory that this process has had, in MB; nothing where the system does not tell."""
    if resource is None:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"Main memory, at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
