"""The arithmetic that this machine reaches: GFLOP/s of large matrix products and convolutions.

By MXNet's oneDNN in float32, bfloat16 and int8, and by NumPy in float32, in turn, --rounds times; a multiply-add is two
operations. The sizes are such that neither memory nor start-up counts: matrices of 2,048 x 2,048, and 3x3 convolutions
of 256 channels on 64 images of 14 x 14. The best round is the peak: others are of a machine that was shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.common import spread, table, write_json
from benchmarks.prepared import mx
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.engines.mxnet.compat import has_bfloat16

SIDE = 2048
IMAGES, CHANNELS, PIXELS = 64, 256, 14
REPEATS = 5  # computations that are timed together
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # as MXNet names it

Computation = Callable[[], object]  # which returns when its result is there
Work = tuple[Computation, float]  # with its GFLOP


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rounds", type=integer(), default=7, help="of all computations")
    command.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    computing = computations()
    found: dict[str, list[float]] = {name: [] for name in computing}
    for _ in tqdm(range(arguments.rounds), unit="round", disable=None):
        for name, (compute, work) in computing.items():
            found[name].append(gigaflops(compute, work))
    rows = [[name, f"{max(figures):,.0f}", spread(figures)] for name, figures in found.items()]
    print(table(("GFLOP/s", "best", f"median (lowest to highest) of {arguments.rounds}"), rows))
    if arguments.json:
        write_json(arguments.json, found)


def gigaflops(compute: Computation, work: float) -> float:
    """GFLOP/s of a computation that has so many GFLOP."""
    compute()
    started = time.perf_counter()
    for _ in range(REPEATS):
        compute()
    return REPEATS * work / (time.perf_counter() - started)


def computations() -> dict[str, Work]:
    """All, by name."""
    dtypes = ["float32", *(["bfloat16"] if has_bfloat16() else []), "int8"]
    matrix = np.ones((SIDE, SIDE), np.float32)
    products = {f"product, {dtype}": product(dtype) for dtype in dtypes}
    convolutions = {f"convolution, {dtype}": convolution(dtype) for dtype in dtypes}
    return {"product, float32, NumPy": (lambda: matrix @ matrix, 2 * SIDE**3 / 1e9), **products, **convolutions}


def product(dtype: str) -> Work:
    """Two matrices of SIDE x SIDE."""
    operator = mx.nd.contrib.quantized_fully_connected if dtype == "int8" else mx.nd.FullyConnected
    return computation(operator, dtype, (SIDE, SIDE), (SIDE, SIDE), num_hidden=SIDE), 2 * SIDE**3 / 1e9


def convolution(dtype: str) -> Work:
    """IMAGES of CHANNELS x PIXELS x PIXELS, and as many filters of 3x3."""
    operator = mx.nd.contrib.quantized_conv if dtype == "int8" else mx.nd.Convolution
    shapes = (IMAGES, CHANNELS, PIXELS, PIXELS), (CHANNELS, CHANNELS, 3, 3)
    work = 2 * 9 * CHANNELS**2 * IMAGES * PIXELS**2 / 1e9
    return computation(operator, dtype, *shapes, num_filter=CHANNELS, kernel=(3, 3), pad=(1, 1)), work


def computation(
    operator: Callable, dtype: str, images: tuple[int, ...], weight: tuple[int, ...], **settings: object
) -> Computation:
    """An operator on random arrays of these shapes."""
    inputs = [mx.nd.random.uniform(0, 1, images), mx.nd.random.uniform(-1, 1, weight)]
    if dtype == "bfloat16":
        inputs = [mx.nd.amp_cast(array, dtype=BFLOAT16) for array in inputs]
    elif dtype == "int8":
        types = ("uint8", "int8")  # the kernels are for images behind a ReLU
        inputs = [mx.nd.cast(127 * array, dtype) for array, dtype in zip(inputs, types)]
        inputs += [mx.nd.array([-1]), mx.nd.array([1])] * 2  # the range of each

    def compute() -> None:
        operator(*inputs, no_bias=True, **settings)
        mx.nd.waitall()

    return compute
