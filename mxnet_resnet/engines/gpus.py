"""The GPUs that the NVIDIA driver shows, and which of them the installed MXNet can compute on.

Nothing here imports MXNet, or makes this process ready for it: its CUDA 11 libraries would be in PyTorch's way. What
only an MXNet itself can tell is tried in a process of its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
from importlib import metadata
from typing import NamedTuple

# The GPU code in the mxnet-cu112 1.9.1 wheel, as `cuobjdump --list-elf libmxnet.so` lists it; it has no PTX.
# Code for X.Y runs on every X.Z with Z >= Y, and on nothing of another major version.
WHEEL, WHEEL_VERSION = "mxnet-cu112", "1.9.1"
WHEEL_COMPUTE_CAPABILITIES = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))

ANOTHER = "use another GPU, the CPU, or PyTorch (--engine torch)"
TRIAL_SECONDS = 120  # code that is there as PTX alone is compiled first
CPU_BUILD, COMPUTES = "built for the CPU", "computes"  # what a trial prints
TRIAL = f"""
import sys
sys.path[:] = {{path!r}}
import mxnet_resnet.engines.mxnet
import mxnet as mx

if not mx.runtime.Features().is_enabled("CUDA"):
    print("{CPU_BUILD}")
elif mx.nd.ones((2, 2), ctx=mx.gpu({{index}})).asnumpy().sum() == 4:
    print("{COMPUTES}")
else:
    sys.exit("it miscalculates")
"""


class Refusal(NamedTuple):
    """Why MXNet cannot compute on a GPU, and what helps, each to be part of a sentence."""

    why: str
    advice: str


def refuse_any(index: int) -> Refusal:
    """What an MXNet says that is built for the CPU only."""
    why = f"GPU {index} cannot serve this MXNet, which is built for the CPU only"
    return Refusal(why, "requirements-gpu.txt has the one for GPUs, or use PyTorch (--engine torch)")


@functools.cache
def find_refusal(index: int) -> Refusal | None:
    """Why GPU ``index`` cannot serve the MXNet that is installed here, or None where it can.

    Of the wheel `mxnet-cu112` 1.9.1 it is known what it has code for. Any other MXNet (NVIDIA's, or your own build)
    computes something small there in a process of its own, once.
    """
    capabilities = list_capabilities()
    if index >= len(capabilities):
        return Refusal(f"there is no GPU {index}", f"the NVIDIA driver shows {len(capabilities) or 'none'}")
    return _compare_with_wheel(index, capabilities[index]) if _has_wheel() else _try(index)


def _has_wheel() -> bool:
    try:
        return metadata.version(WHEEL) == WHEEL_VERSION
    except metadata.PackageNotFoundError:
        return False


def _compare_with_wheel(index: int, capability: tuple[int, int]) -> Refusal | None:
    major, minor = capability
    if any(major == have and minor >= least for have, least in WHEEL_COMPUTE_CAPABILITIES):
        return None
    why = f"GPU {index} has compute capability {major}.{minor}, and {WHEEL} {WHEEL_VERSION} holds code for 5.0 to 8.9"
    return Refusal(f"{why} only", ANOTHER)


def _try(index: int) -> Refusal | None:
    """Have MXNet compute on a GPU in a process of its own, which may fail in any way."""
    code = TRIAL.format(path=sys.path, index=index)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DMLC_")}  # no server
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return _refuse_after_trial(index, f"it took more than {TRIAL_SECONDS} s")
    if done.returncode < 0:
        return _refuse_after_trial(index, f"it was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        return _refuse_after_trial(index, _find_cause(done.stderr))
    if CPU_BUILD in done.stdout:
        return refuse_any(index)
    return None if COMPUTES in done.stdout else _refuse_after_trial(index, "it ended without a result")


def _refuse_after_trial(index: int, cause: str) -> Refusal:
    return Refusal(f"this MXNet failed to compute on GPU {index} ({cause})", ANOTHER)


def _find_cause(traceback: str) -> str:
    """The line of a traceback that says what went wrong; MXNet puts a stack of C++ behind it."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in lines if "Check failed" in line), lines[-1])


@functools.cache
def list_capabilities() -> tuple[tuple[int, int], ...]:
    """The (major, minor) compute capability of each GPU, as the driver tells; none where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()

    def attribute(number: int, device: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    major, minor = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    return tuple((attribute(major, device), attribute(minor, device)) for device in range(count.value))
