"""The MXNet engine (base.Engine). It loads MXNet when it first computes, so that a process can be made ready before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mxnet_resnet.base import workers
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import Devices, Group, TrainingSpec
from mxnet_resnet.engines.mxnet import cluster, compat

if TYPE_CHECKING:
    from mxnet_resnet.data.batch import Batch
    from mxnet_resnet.data.reader import TrainingRecords
    from mxnet_resnet.engines.mxnet.gradients import FeatureGradients
    from mxnet_resnet.engines.mxnet.predictor import Predictor
    from mxnet_resnet.engines.mxnet.training import TrainingModel
    from mxnet_resnet.engines.net import TrainedNet
    from mxnet_resnet.plans.architecture import Architecture


class MXNetEngine:
    """Apache MXNet 1.9.1: on CPUs and on the GPUs that it has code for; kvstores join devices and workers."""

    name = "mxnet"
    reason = ""
    readers = ("imagerecorditer",)

    @property
    def version(self) -> str:
        """That of MXNet."""
        self.load()
        import mxnet as mx

        return mx.__version__

    def load(self, soon_done: bool = False) -> None:
        if soon_done:
            compat.import_mxnet_quickly()
        else:
            compat.load()

    def prepare(self, store: str, cpus: int | None, threads: int | None = None, fixed: bool = False) -> list[str]:
        if workers.is_launched():
            raise UserError("torchrun starts workers of PyTorch: those of MXNet are started by tools/launch.py")
        fixed = fixed or cluster.is_distributed(store)  # the workers of a job have the same number
        notes = compat.choose_threads(cpus or 1, threads, fixed)
        cluster.prepare(store)  # servers and schedulers serve in here
        return notes

    def choose_devices(self, gpus: Sequence[int] | None, cpus: int | None) -> Devices:
        self.load()
        from mxnet_resnet.engines.mxnet import devices

        contexts, note = devices.choose(None if gpus is None else list(gpus), cpus)
        return Devices(contexts, contexts[0].device_type, note)

    @contextmanager
    def join(self, store: str, devices: Devices) -> Iterator[Group]:
        from mxnet_resnet.engines.mxnet.group import KVStoreGroup

        with cluster.join(store) as kvstore:
            yield KVStoreGroup(kvstore)

    def model(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> TrainingModel:
        from mxnet_resnet.engines.mxnet.training import TrainingModel

        return TrainingModel(plan, spec, devices)

    def trains_together(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> bool:
        return False

    def unite(self, sessions: Sequence[Any]) -> Callable[[], None]:
        raise NotImplementedError("MXNet trains one net after the other")

    def read_epoch(self, records: TrainingRecords, epoch: int, backend: str) -> Iterator[Batch]:
        from mxnet_resnet.engines.mxnet import imagerecorditer

        return imagerecorditer.read_epoch(records, epoch)

    def versions(self) -> dict[str, str]:
        return {"MXNet": self.version}

    def memory(self, devices: Devices) -> dict[str, float]:
        import mxnet as mx

        found = {}
        for context in devices.handles if devices.kind == "gpu" else ():
            free, total = mx.context.gpu_memory_info(context.device_id)
            found[f"Memory of GPU {context.device_id}, taken"] = (total - free) / 2**20
        return found

    def adopt(self, net: TrainedNet) -> TrainedNet:
        from mxnet_resnet.engines.mxnet import nets

        return nets.adopt(net)

    def predictor(self, net: TrainedNet, devices: Devices, batch_size: int, dtype: str) -> Predictor:
        from mxnet_resnet.engines.mxnet import precision
        from mxnet_resnet.engines.mxnet.predictor import Predictor

        precision.check_dtype(dtype, list(devices.handles))
        return Predictor(net, devices.handles[0], batch_size, dtype)

    def gradients(self, net: TrainedNet, devices: Devices) -> FeatureGradients:
        from mxnet_resnet.engines.mxnet.gradients import FeatureGradients

        return FeatureGradients(net, devices.handles[0])
