"""Which devices PyTorch computes on."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from mxnet_resnet.base import workers
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import Devices

CPU = torch.device("cpu")


def choose(gpus: Sequence[int] | None, cpus: int | None) -> Devices:
    """The devices for ``--gpus`` and ``--cpus`` (base.Engine.choose_devices); of a launched process, its own one.

    Raises UserError for a GPU that cannot serve.
    """
    found = _choose_all(gpus, cpus)
    if not workers.is_launched():
        return found
    rank, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if gpus is None and not cpus and refuse_gpu(count - 1) is None:
        handles = [torch.device("cuda", index) for index in range(count)]
        found = Devices(handles, "gpu", f"Computing on GPU {', '.join(map(str, range(count)))}, a process each")
    elif len(found) == 1 and found.kind == "cpu":
        found = Devices([CPU] * count, "cpu", f"Computing on the CPU, processes: {count}")
    if len(found) != count:
        raise UserError(f"torchrun started {count} processes on this machine for {len(found)} devices: one each")
    return Devices([found.handles[rank]], found.kind, found.note)


def _choose_all(gpus: Sequence[int] | None, cpus: int | None) -> Devices:
    if cpus:
        return Devices([CPU] * cpus, "cpu", f"Computing on the CPU as {cpus} devices, as asked")
    if gpus is None:
        refusal = refuse_gpu(0)
        if refusal is None:
            return Devices([torch.device("cuda", 0)], "gpu", f"Computing on GPU 0 ({torch.cuda.get_device_name(0)})")
        return Devices([CPU], "cpu", f"Computing on the CPU: {refusal}")
    for index in gpus:
        refusal = refuse_gpu(index)
        if refusal:
            raise UserError(refusal)
    if not gpus:
        return Devices([CPU], "cpu", "Computing on the CPU, as asked")
    handles = [torch.device("cuda", index) for index in gpus]
    return Devices(
        handles, "gpu", f"Computing on GPU {', '.join(map(str, gpus))} ({torch.cuda.get_device_name(gpus[0])})"
    )


def refuse_gpu(index: int) -> str | None:
    """Why GPU ``index`` cannot serve PyTorch, in one sentence that says what to do, or None where it can."""
    if torch.version.hip:
        return f"GPU {index} cannot serve, since PyTorch {torch.__version__} is built for ROCm, which was never tried"
    if torch.version.cuda is None:
        return f"GPU {index} cannot serve, since PyTorch {torch.__version__} is built for the CPU only"
    count = torch.cuda.device_count()
    if index >= count:
        return f"there is no GPU {index}: PyTorch {torch.__version__} sees {count}"
    capability = torch.cuda.get_device_capability(index)
    if any(_runs_on(name, capability) for name in torch.cuda.get_arch_list()):
        return None
    major, minor = capability
    return (
        f"GPU {index} has compute capability {major}.{minor}, and PyTorch {torch.__version__} holds code for "
        f"{', '.join(torch.cuda.get_arch_list())} only: install a release of PyTorch that has it, or use the CPU"
    )


def _runs_on(name: str, capability: tuple[int, int]) -> bool:
    """Whether code called ``sm_86`` (of a GPU) or ``compute_90`` (which the driver compiles) runs on a capability.

    Code for a GPU runs on every later one of the same major version.
    """
    kind, _, number = name.partition("_")
    digits = "".join(character for character in number if character.isdigit())
    have = int(digits[:-1]), int(digits[-1])
    return have <= capability and (kind == "compute" or have[0] == capability[0])


def describe_memory(device: torch.device) -> str:
    """``"GPU 0 has 79 GB"``."""
    total = torch.cuda.get_device_properties(device).total_memory
    return f"GPU {device.index} has {total / 2**30:.0f} GB"
