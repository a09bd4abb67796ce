"""What the workers of a job tell each other: PyTorch's process groups, NCCL between GPUs and gloo between CPUs."""

from __future__ import annotations

import gc
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mxnet_resnet.base import workers
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.base import Devices
from mxnet_resnet.engines.torch import launcher

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
        digest = torch.tensor(list(hashlib.sha256(text.encode(errors="surrogatepass")).digest()))
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
        stop = bool(before[1])
        if stop:
            self.finish()
        return stop

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give vectors of one device their means over the workers, as BatchNorm's statistics, in place."""
        if self.alone or not tensors:
            return
        flat = torch.cat(list(tensors))
        dist.all_reduce(flat)
        flat /= self.count
        torch._foreach_copy_(list(tensors), flat.split([len(tensor) for tensor in tensors]))

    def spread(self, net: nn.Module, device: torch.device) -> nn.Module:
        """A net whose gradients are the means over the workers; its BatchNorms are those of each."""
        if self.alone:
            return net
        indices = [device.index] if device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer releases have another name for broadcast_buffers
            return DistributedDataParallel(
                net, device_ids=indices, broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def finish(self) -> None:
        """Wait for what was asked last."""
        if self._stop is not None:
            self._stop[0].wait()


def count_workers() -> int:
    """The workers that this one has joined, itself included."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def join(devices: Devices, reason: str = "") -> Iterator[ProcessGroup]:
    """The workers (base.Engine.join): this process alone, or those that were launched with it.

    For several devices it launches a process each, waits for them, and ends by SystemExit. ``reason`` is the engine's.
    """
    if not workers.is_launched():
        if len(devices) > 1:
            launcher.launch(len(devices), reason)
        share_cores(1)
        yield ProcessGroup()
        return
    share_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        with _explaining_deaths():
            group = _join_workers(devices)
            group.add_up([0.0])  # lest one ends while another still connects to it
            yield group
            group.finish()
            group.add_up([0.0])  # the others are waited for
    except Exception:
        # NCCL would wait here for what the others never send; they notice when this process ends.
        workers.claim_word()
        raise
    except Interrupted:
        _leave_workers()
        raise
    _leave_workers()


def _join_workers(devices: Devices) -> ProcessGroup:
    """Find the other workers. Raises UserError where they cannot be reached."""
    try:
        if devices.kind == "cpu":
            dist.init_process_group("gloo", timeout=PATIENCE, **_meeting())
            return ProcessGroup("gloo")
        torch.cuda.set_device(devices.handles[0])
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE, device_id=devices.handles[0], **_meeting())
        return ProcessGroup("nccl")
    except RuntimeError as error:
        raise UserError(f"the workers of the job do not find each other: {str(error).splitlines()[0]}") from error


def _meeting() -> dict[str, Any]:
    """Where the workers find each other: in a file of our own launcher, or as torchrun says in the environment."""
    if not workers.is_ours():
        return {}
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": dist.FileStore(os.environ[workers.MEETING], count), "rank": rank, "world_size": count}


def _leave_workers() -> None:
    gc.collect()  # DistributedDataParallel holds the process group in a circle
    dist.destroy_process_group()


def share_cores(processes: int) -> None:
    """Let this process take its share of the cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // processes))  # for the log, and for a resumed run
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@contextmanager
def _explaining_deaths() -> Iterator[None]:
    """Raise UserError where another worker is gone in the middle of something common."""
    try:
        yield
    except RuntimeError as error:
        lost = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in lost):
            raise
        if workers.is_ours():
            raise SystemExit(launcher.SAID) from None  # whoever ended, or the launcher, says more of it
        raise UserError(f"another worker of the job has ended: {launcher.RESUME}") from error
