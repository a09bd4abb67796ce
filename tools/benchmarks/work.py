"""What a training step of ours has to do, whatever does it: arithmetic, and the bytes of each operation by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.base import Engine, Session, TrainingSpec
from mxnet_resnet.plans.architecture import Architecture

COUNTED = (2, 4)  # images a step: its work is a constant and so much an image


@dataclass(frozen=True)
class Work:
    """Of a step: operations, of which a multiply-add is two, and bytes that are read and written."""

    operations: float
    bytes: float


class Traffic(TorchDispatchMode):
    """Counts the bytes of the inputs and outputs of every operation: none is fused, and no cache holds anything."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given, made = _list_tensors((args, kwargs)), _list_tensors(found)
        if "empty" not in str(func) and not _is_view(func, given, made):
            self.bytes += sum(map(_count_bytes, (*given, *made)))
        return found


def count_work(engine: Engine, plan: Architecture, spec: TrainingSpec) -> Work:
    """Of a step of ``spec.batch_size`` images, told from two small ones on the CPU."""
    devices = engine.choose_devices([], None)
    found = []
    with engine.join("device", devices) as group:
        for images in COUNTED:
            model = engine.model(plan, replace(spec, batch_size=images, compilation="no"), devices)
            model.prepare()
            found.append(_count_step(model.start(group, None, 0), make_batch(spec, images)))
    (few, many), (less, more) = COUNTED, found
    return Work(
        *(
            one + (other - one) * (spec.batch_size - few) / (many - few)
            for one, other in ((less.operations, more.operations), (less.bytes, more.bytes))
        )
    )


def make_batch(spec: TrainingSpec, images: int) -> Batch:
    """Random images (N, 3, H, W), 0..255, and labels (N,)."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (images, *spec.image_shape)).astype(np.float32)
    return Batch(pixels, rng.integers(spec.classes, size=images).astype(np.float32), images)


def _count_step(session: Session, batch: Batch) -> Work:
    session.step(batch, 0).result()  # what is allocated once is no work of a step
    with FlopCounterMode(display=False) as counter, Traffic() as traffic:
        session.step(batch, 1)
    return Work(counter.get_total_flops(), traffic.bytes)


def _list_tensors(values: object) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _is_view(func: Any, given: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> bool:
    """Whether an operation only looks at its input in another way."""
    places = {tensor.untyped_storage().data_ptr() for tensor in given}
    return not func._schema.is_mutable and any(tensor.untyped_storage().data_ptr() in places for tensor in made)


def _count_bytes(tensor: torch.Tensor) -> int:
    """Those of its values; of one that was expanded, those that there are."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
