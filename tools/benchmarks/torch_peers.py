"""torch-resnet on PyTorch at its best on a CPU: channels last, all threads."""

from __future__ import annotations

import torch
import torch_resnet

from tools.benchmarks.common import data_type
from tools.benchmarks.way import CORES, Step


def training(depth: int, images: int, dtype: str) -> Step:
    net, (pixels, labels) = _net(depth).train(), _batch(depth, images)
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(net(pixels), labels)
        value.backward()
        optimizer.step()

    return step


def prediction(depth: int, images: int, dtype: str) -> Step:
    net, (pixels, _) = _net(depth).eval(), _batch(depth, images)

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            net(pixels).softmax(1)

    return step


def _net(depth: int) -> torch.nn.Module:
    torch.set_num_threads(CORES)
    small = data_type(depth) != "imagenet"
    net = getattr(torch_resnet, f"PreActResNet{depth}")(small_images=small)
    net.set_head(torch.nn.Linear(net.out_planes, 10 if small else 1000))
    return net.to(memory_format=torch.channels_last)


def _batch(depth: int, images: int) -> tuple[torch.Tensor, torch.Tensor]:
    side, classes = (224, 1000) if data_type(depth) == "imagenet" else (32, 10)
    pixels = torch.rand(images, 3, side, side).to(memory_format=torch.channels_last)
    return pixels, torch.randint(classes, (images,))
