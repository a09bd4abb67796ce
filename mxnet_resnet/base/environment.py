"""What a run computes with: versions and memory for its log and report, and the variables that MXNet reads."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import mxnet as mx
import numpy as np


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
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Versions and settings that figures may depend on."""
    return {
        "Python": platform.python_version(),
        "MXNet": mx.__version__,
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "Platform": platform.platform(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset"),
    }


def memory(contexts: list[mx.Context]) -> dict[str, float]:
    """The most main memory that this process has had, and what is taken on each GPU now, in MB."""
    found = {"Main memory, at most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    for context in contexts:
        if context.device_type == "gpu":
            free, total = mx.context.gpu_memory_info(context.device_id)
            found[f"Memory of GPU {context.device_id}, taken"] = (total - free) / 2**20
    return found
