"""This process: its share of the machine, versions and memory for a log and a report, variables of its environment."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = read_cpu_quota()
    return bound if quota >= bound else max(1, math.ceil(quota))


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
