"""torch-resnet on PyTorch at its best on a CPU: channels last, all threads, as it stands or compiled.

In bfloat16 it trains by autocast, and predicts with weights in bfloat16, which autocast would cast in each step.
"""

from __future__ import annotations

import torch
import torch_resnet

from benchmarks.common import data_type
from benchmarks.way import CORES, Step

Batch = tuple[torch.Tensor, torch.Tensor]  # images and labels


def training(depth: int, images: int, dtype: str) -> Step:
    """A step on one batch, forward, backward and update."""
    return _training(_net(depth).train(), _batch(depth, images), dtype)


def compiled_training(depth: int, images: int, dtype: str) -> Step:
    """The same by torch.compile."""
    return _training(torch.compile(_net(depth).train()), _batch(depth, images), dtype)


def prediction(depth: int, images: int, dtype: str) -> Step:
    """Probabilities of one batch."""
    return _prediction(_predicting(depth, dtype), _batch(depth, images), dtype)


def compiled_prediction(depth: int, images: int, dtype: str) -> Step:
    """The same by torch.compile."""
    torch._inductor.config.freezing = True  # folds BatchNorms, and lays weights out for oneDNN once
    return _prediction(torch.compile(_predicting(depth, dtype)), _batch(depth, images), dtype)


def _training(net: torch.nn.Module, batch: Batch, dtype: str) -> Step:
    pixels, labels = batch
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(net(pixels), labels)
        value.backward()
        optimizer.step()

    return step


def _prediction(net: torch.nn.Module, batch: Batch, dtype: str) -> Step:
    pixels, _ = batch

    def step() -> None:
        with torch.no_grad():
            net(pixels.to(getattr(torch, dtype))).softmax(1)

    return step


def _predicting(depth: int, dtype: str) -> torch.nn.Module:
    return _net(depth).eval().to(getattr(torch, dtype))


def _net(depth: int) -> torch.nn.Module:
    torch.set_num_threads(CORES)
    small = data_type(depth) != "imagenet"
    net = getattr(torch_resnet, f"PreActResNet{depth}")(small_images=small)
    net.set_head(torch.nn.Linear(net.out_planes, 10 if small else 1000))
    return net.to(memory_format=torch.channels_last)


def _batch(depth: int, images: int) -> Batch:
    side, classes = (224, 1000) if data_type(depth) == "imagenet" else (32, 10)
    pixels = torch.rand(images, 3, side, side).to(memory_format=torch.channels_last)
    return pixels, torch.randint(classes, (images,))
