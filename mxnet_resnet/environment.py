"""What a run computes with, for its log and its report."""

from __future__ import annotations

import os
import platform
import resource

import cv2
import mxnet as mx
import numpy as np


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
