"""What the workers of a job tell each other: PyTorch's process groups, NCCL between GPUs and gloo between CPUs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.base import Devices
from mxnet_resnet.engines.torch import launcher
from mxnet_resnet.engines.torch.devices import is_launched

PATIENCE = timedelta(minutes=10)  # for workers that live; one that dies is noticed when its connections close


class ProcessGroup:
    """The workers of a job (base.Group), or this process by itself; one worker has one device.

    Attributes:
        store: what joins them.
    """

    def __init__(self, store: str = "local"):
        self.alone, self.store = store == "local", store
        self.rank, self.count, self.local_rank, self.local_count = 0, 1, 0, 1
        if not self.alone:
            self.rank, self.count = dist.get_rank(), dist.get_world_size()
            self.local_rank, self.local_count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        self._stop: tuple[dist.Work, torch.Tensor] | None = None

    def add_up(self, values: Sequence[float]) -> list[float]:
        """The values, summed over the workers in float64."""
        if self.alone:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return summed.tolist()

    def all_same(self, text: str) -> bool:
        """Whether all workers have the same text."""
        if self.alone:
            return True
        digest = torch.tensor(list(hashlib.sha256(text.encode()).digest()))
        digests = [torch.empty_like(digest) for _ in range(self.count)]
        dist.all_gather(digests, digest)
        return all(torch.equal(digest, other) for other in digests)

    def should_stop(self, told: bool) -> bool:
        """Whether any worker had been told to stop, one call before: no step waits for the answer."""
        if self.alone:
            return told
        before = self._stop
        flag = torch.tensor([told], dtype=torch.int32)
        self._stop = dist.all_reduce(flag, async_op=True), flag
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item())

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give tensors of one device their means over the workers, as BatchNorm's statistics, in place."""
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view_as(tensor))

    def spread(self, net: nn.Module, device: torch.device) -> nn.Module:
        """A net whose gradients are the means over the workers; its BatchNorms are those of each."""
        if self.alone:
            return net
        indices = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=indices, broadcast_buffers=False, gradient_as_bucket_view=True)

    def finish(self) -> None:
        """Wait for what was asked last."""
        if self._stop is not None:
            self._stop[0].wait()


@contextmanager
def join(devices: Devices) -> Iterator[ProcessGroup]:
    """The workers (base.Engine.join): this process alone, or those that were launched with it.

    For several devices it launches a process each, waits for them, and ends by SystemExit.
    """
    if not is_launched():
        if len(devices) > 1:
            raise SystemExit(launcher.launch(len(devices)))
        yield ProcessGroup()
        return
    launcher.end_with_parent()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if devices.kind == "gpu":
        torch.cuda.set_device(devices.handles[0])
    try:
        store = "nccl" if devices.kind == "gpu" else "gloo"
        dist.init_process_group(f"cpu:gloo,cuda:{store}" if devices.kind == "gpu" else store, timeout=PATIENCE)
        group = ProcessGroup(store)
        with _explaining_deaths():
            yield group
            group.finish()
            dist.barrier()
    except UserError as error:
        launcher.record(error)
        if launcher.is_ours() or int(os.environ["LOCAL_RANK"]):
            raise SystemExit(2) from None  # the launcher says it, once
        raise
    except Interrupted as end:
        if int(os.environ["LOCAL_RANK"]):
            raise SystemExit(end.status) from None  # the first worker says it
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def _explaining_deaths() -> Iterator[None]:
    """Raise UserError where another worker is gone in the middle of something common."""
    try:
        yield
    except RuntimeError as error:
        lost = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
        if isinstance(error, dist.DistError) or any(word in str(error) for word in lost):
            raise UserError(launcher.DIED) from error
        raise
