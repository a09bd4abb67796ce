"""Training and prediction in bfloat16 and float16: weights, statistics and their updates stay float32."""

from __future__ import annotations

import os

import torch

from mxnet_resnet.base.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# As the MXNet engine begins, which keeps the scale within 1 and 2**24, after Micikevicius et al., arXiv 1710.03740,
# section 3.2.
FIRST_SCALE = 2.0**16
STEPS_BEFORE_DOUBLING = 2000


def check_dtype(dtype: str, device: torch.device) -> None:
    """Raise UserError where a device cannot compute in ``dtype``."""
    if dtype == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8:
        raise UserError(
            f"GPU {device.index} has no bfloat16, which begins with compute capability 8.0: take --dtype float16"
        )


def choose_algorithms(device: torch.device, deterministic: bool) -> None:
    """Let a GPU sum in a fixed order, or else try which convolutions are the fastest."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first called
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic


def computing(device: torch.device, dtype: str) -> torch.autocast:
    """Within it, convolutions and the classifier compute in ``dtype``."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32")


def make_scaler(device: torch.device, state: tuple[float, int] | None) -> torch.amp.GradScaler:
    """What keeps gradients inside float16: it goes on from (scale, steps since it changed), or begins."""
    scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, growth_interval=STEPS_BEFORE_DOUBLING)
    if state is not None:
        scaler.load_state_dict({**scaler.state_dict(), "scale": state[0], "_growth_tracker": state[1]})
    return scaler


def read_scale(scaler: torch.amp.GradScaler) -> tuple[float, int]:
    """The (scale, steps since it changed), for a checkpoint."""
    state = scaler.state_dict()
    return state["scale"], state["_growth_tracker"]
