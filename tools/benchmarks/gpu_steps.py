"""What a process of `benchmark.py gpu` computes: torch-resnet's training and prediction, and our prediction.

`python -m benchmarks.gpu_steps FUNCTION DEPTH IMAGES SEEDS DEVICE SECONDS`, started in tools/, gets ready, says so,
waits for a line, and prints its images/s as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.gpu_nets import DEEPEST_SHALLOW, LARGE, describe_run
from mxnet_resnet.base.errors import run

READY = "ready"
WARM_UP = 3  # steps: the first choose kernels and allocate
STEPS_AT_ONCE = 10  # before the device is waited for
SGD = {"momentum": 0.9, "weight_decay": 1e-4}  # as torch-resnet's example has it; the rate changes nothing here

Step = Callable[[], object]


def example_training(depth: int, images: int, seeds: int, device: torch.device) -> Step:
    """As torch-resnet's example trains: float16 by autocast, its gradients scaled, one operation after the other."""
    torch.backends.cudnn.benchmark = True
    net = make_net(depth).to(device).train()
    pixels, labels = make_batch(depth, images, device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, **SGD)
    scaler = torch.amp.GradScaler(device.type)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16):
            loss = cross_entropy(net(pixels), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def best_training(depth: int, images: int, seeds: int, device: torch.device) -> Step:
    """bfloat16, channels last, compiled, and the steps of all seeds as one CUDA graph, each on a stream of its own.

    Nets for CIFAR of more than 56 layers are not compiled: that takes minutes.
    """
    steps = [_best_step(depth, images, device) for _ in range(seeds)]
    for step in steps:
        step()  # compiles
    return Captured(steps) if device.type == "cuda" else lambda: [step() for step in steps]


def _best_step(depth: int, images: int, device: torch.device) -> Step:
    net = make_net(depth).to(device, memory_format=torch.channels_last).train()
    pixels, labels = make_batch(depth, images, device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    rate = torch.tensor(0.1, device=device)  # there, so that a graph reads it anew
    optimizer = torch.optim.SGD(net.parameters(), rate, fused=True, **SGD)
    computed = torch.compile(net) if _compiles(depth, device) else net

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = cross_entropy(computed(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def eager_prediction(depth: int, images: int, seeds: int, device: torch.device) -> Step:
    """torch-resnet in bfloat16, one operation after the other; images (N, 3, H, W), float32, in main memory."""
    torch.backends.cudnn.benchmark = True
    net = make_net(depth).to(device, torch.bfloat16).eval()
    pixels, _ = make_batch(depth, images, torch.device("cpu"))

    @torch.inference_mode()
    def step() -> torch.Tensor:
        return net(pixels.to(device).to(torch.bfloat16)).softmax(1).float().cpu()

    return step


@torch.no_grad()
def best_prediction(depth: int, images: int, seeds: int, device: torch.device) -> Step:
    """The same compiled, channels last, as one CUDA graph, from images in memory that the GPU can reach."""
    net = make_net(depth).to(device, torch.bfloat16, memory_format=torch.channels_last).eval()
    pixels, _ = make_batch(depth, images, torch.device("cpu"))
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    given = pixels.to(device)
    computed = torch.compile(net) if _compiles(depth, device) else net
    found = torch.empty(images, 1000 if depth in LARGE else 10, device=device)
    host = pixels.pin_memory() if device.type == "cuda" else pixels

    @torch.no_grad()
    def compute() -> None:
        found.copy_(computed(given.to(torch.bfloat16)).softmax(1))

    compute()  # compiles
    launch = Captured([compute]) if device.type == "cuda" else compute

    def step() -> torch.Tensor:
        given.copy_(host, non_blocking=True)
        launch()
        return found.cpu()

    return step


def own_prediction(depth: int, images: int, seeds: int, device: torch.device) -> Step:
    """Ours, by the predictor that predict.py and evaluate.py have, in bfloat16."""
    from mxnet_resnet import engines
    from mxnet_resnet.engines import initial
    from mxnet_resnet.engines.graphs import emission
    from mxnet_resnet.engines.net import TrainedNet

    engine, settings = engines.choose("torch"), describe_run((depth, images), [])
    plan, classes = settings.net.plan, settings.data.classes
    graph = emission.emit(plan, classes)
    arrays = initial.draw(graph, graph.noted_shapes, 0)
    net = engine.adopt(TrainedNet("a net", *arrays, settings.data.image_shape, classes, plan=plan))
    devices = engine.choose_devices([0] if device.type == "cuda" else [], None)
    predictor = engine.predictor(net, devices, images, "bfloat16")
    pixels = np.random.default_rng(0).uniform(0, 255, (images, *settings.data.image_shape)).astype(np.float32)
    return partial(predictor.scores, pixels)


class Captured:
    """Steps as one CUDA graph, each on a stream of its own, so that those that leave the GPU room run at once."""

    def __init__(self, steps: Sequence[Step]):
        self.steps, self.graph = steps, torch.cuda.CUDAGraph()
        self._streams = [torch.cuda.Stream() for _ in steps]
        self._is_captured = False

    def __call__(self) -> None:
        if not self._is_captured:
            torch.backends.cudnn.benchmark = True  # now that this process has the GPU to itself
            for _ in range(WARM_UP):
                self._spread()
            torch.cuda.synchronize()
            with torch.cuda.graph(self.graph):
                self._spread()
            self._is_captured = True
        self.graph.replay()

    def _spread(self) -> None:
        """Each step on its stream, from the current one on and back to it."""
        current = torch.cuda.current_stream()
        for stream, step in zip(self._streams, self.steps):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                step()
        for stream in self._streams:
            current.wait_stream(stream)


def make_net(depth: int) -> torch.nn.Module:
    """torch-resnet's net with a classifier."""
    import torch_resnet

    net = getattr(torch_resnet, f"PreActResNet{depth}")(small_images=depth not in LARGE)
    net.set_head(torch.nn.Linear(net.out_planes, 1000 if depth in LARGE else 10))
    return net


def make_batch(depth: int, images: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (N, 3, H, W), float32, and labels (N,)."""
    side, classes = (224, 1000) if depth in LARGE else (32, 10)
    return torch.randn(images, 3, side, side, device=device), torch.randint(classes, (images,), device=device)


def _compiles(depth: int, device: torch.device) -> bool:
    return device.type == "cuda" and (depth in LARGE or depth <= DEEPEST_SHALLOW)


def measure(step: Step, device: torch.device, seconds: float) -> tuple[int, float]:
    """How many steps were made in how many seconds, after those that warm up."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(WARM_UP):
        step()
    wait()
    steps, started = 0, time.perf_counter()
    while not steps or time.perf_counter() - started < seconds:
        for _ in range(STEPS_AT_ONCE if device.type == "cuda" else 1):
            step()
            steps += 1
        wait()
    return steps, time.perf_counter() - started


def main(function: str, depth: str, images: str, seeds: str, device: str, seconds: str) -> None:
    place = torch.device("cuda" if device == "gpu" else "cpu")
    began = time.perf_counter()
    step = globals()[function](int(depth), int(images), int(seeds), place)
    prepared = time.perf_counter() - began
    print(READY, flush=True)
    sys.stdin.readline()
    steps, taken = measure(step, place, float(seconds))
    print(json.dumps({"images/s": steps * int(images) * int(seeds) / taken, "prepared": prepared}))


if __name__ == "__main__":
    run(lambda: main(*sys.argv[1:]))
