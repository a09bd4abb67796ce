"""The PyTorch engine (base.Engine): on CPUs, and on every GPU that PyTorch has code for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mxnet_resnet.base import workers
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import Devices, Group, TrainingSpec
from mxnet_resnet.engines.torch import NO_TORCH

if TYPE_CHECKING:
    from mxnet_resnet.data.batch import Batch
    from mxnet_resnet.data.reader import TrainingRecords
    from mxnet_resnet.engines.net import TrainedNet
    from mxnet_resnet.engines.torch.gradients import FeatureGradients
    from mxnet_resnet.engines.torch.predictor import Predictor
    from mxnet_resnet.engines.torch.training import TrainingModel
    from mxnet_resnet.plans.architecture import Architecture


class TorchEngine:
    """PyTorch: a process a device, which NCCL joins on GPUs and gloo on CPUs.

    Attributes:
        reason: why it was taken in place of MXNet, where nobody asked for it.
    """

    name = "torch"
    readers = ()

    def __init__(self, reason: str = ""):
        self.reason = reason

    @property
    def version(self) -> str:
        """That of PyTorch."""
        self.load()
        import torch

        return torch.__version__

    def load(self, soon_done: bool = False) -> None:
        if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
            os.environ["GOMP_SPINCOUNT"] = "1000"  # threads that wait soon sleep: what that gives is in performance.md
        try:
            import torch
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise UserError(NO_TORCH) from error
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32; who wants speed has bfloat16

    def prepare(self, store: str, cpus: int | None, threads: int | None = None, fixed: bool = False) -> list[str]:
        if store.startswith("dist"):
            raise UserError(f"--kv-store {store} is MXNet's: PyTorch's workers are started by torchrun instead")
        if os.environ.get("DMLC_ROLE"):
            raise UserError("tools/launch.py starts workers of MXNet: those of PyTorch are started by torchrun")
        if workers.is_launched():
            workers.end_with_launcher()
        elif os.environ.get("WORLD_SIZE", "1") != "1":
            raise UserError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and torchrun has not started this process: start it by that"
            )
        return []

    def choose_devices(self, gpus: Sequence[int] | None, cpus: int | None) -> Devices:
        self.load()
        from mxnet_resnet.engines.torch import devices

        return devices.choose(gpus, cpus)

    def join(self, store: str, devices: Devices) -> AbstractContextManager[Group]:
        from mxnet_resnet.engines.torch import group

        return group.join(devices, self.reason)

    def model(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> TrainingModel:
        from mxnet_resnet.engines.torch.training import TrainingModel

        return TrainingModel(plan, spec, devices.handles[0])

    def trains_together(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> bool:
        several = workers.is_launched() or len(devices) > 1
        if several or devices.kind == "cpu" or spec.memonger or plan.drop_rate:
            return False  # on a CPU that is as fast; the steps of the others are no CUDA graphs
        if spec.dtype == "float16":
            raise UserError(
                "several seeds at once need --dtype bfloat16 or float32: the loss scale of float16 is read at each step"
            )
        return True

    def unite(self, sessions: Sequence[Any]) -> Callable[[], None]:
        from mxnet_resnet.engines.torch import team

        return team.unite(sessions)

    def read_epoch(self, records: TrainingRecords, epoch: int, backend: str) -> Iterator[Batch]:
        raise UserError(f"PyTorch has no reader {backend}")

    def versions(self) -> dict[str, str]:
        import torch

        cuda = {"CUDA": torch.version.cuda} if torch.version.cuda else {}
        return {"PyTorch": self.version, **cuda}

    def memory(self, devices: Devices) -> dict[str, float]:
        import torch

        gpus = devices.handles if devices.kind == "gpu" else ()
        return {f"Memory of GPU {gpu.index}, at most": torch.cuda.max_memory_reserved(gpu) / 2**20 for gpu in gpus}

    def adopt(self, net: TrainedNet) -> TrainedNet:
        from mxnet_resnet.engines.torch import predictor

        return predictor.adopt(net)

    def predictor(self, net: TrainedNet, devices: Devices, batch_size: int, dtype: str) -> Predictor:
        from mxnet_resnet.engines.torch import precision
        from mxnet_resnet.engines.torch.predictor import Predictor

        precision.check_dtype(dtype, devices.handles[0])
        return Predictor(net, devices.handles[0], batch_size, dtype)

    def gradients(self, net: TrainedNet, devices: Devices) -> FeatureGradients:
        from mxnet_resnet.engines.torch.gradients import FeatureGradients

        return FeatureGradients(net, devices.handles[0])
