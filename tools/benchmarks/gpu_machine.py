"""What figures of a GPU may depend on."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from importlib import metadata

from benchmarks.common import not_installed, output
from mxnet_resnet.base import environment
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.gpus import find_refusal

# In a process of its own: PyTorch would take memory of the GPU for as long as this one runs.
DESCRIBE = """
import json, torch
cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(json.dumps({"PyTorch": torch.__version__, "CUDA": torch.version.cuda, "cuDNN": cudnn, "GPU": gpu}))
"""
ASKED = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "memory.total")


def describe_machine(device: str) -> dict[str, object]:
    """The GPU, its driver and clocks, and the versions, as far as they can be told."""
    found: dict[str, object] = {"device": device, **environment.versions()}
    with suppress(UserError):
        found.update(json.loads(output("PyTorch", [sys.executable, "-c", DESCRIBE])))
    with suppress(metadata.PackageNotFoundError):
        found["torch_resnet"] = metadata.version("torch_resnet")
    if device == "gpu":
        found.update(_ask_driver())
    return found


def _ask_driver() -> dict[str, str]:
    """What nvidia-smi tells of the first GPU."""
    command = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", "--id=0"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(ASKED, (value.strip() for value in told.split(","))))


def find_mxnet_hindrances(device: str) -> list[str]:
    """Why MXNet is not measured, in sentences."""
    if device == "cpu":
        return ["`benchmark.py train --compare` measures it on CPUs"]
    if missing := not_installed(["mxnet"]):
        return missing
    refusal = find_refusal(0)
    return [refusal.why] if refusal else []
