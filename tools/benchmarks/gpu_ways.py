"""What processes of gpu_steps compute, side by side and in turn: torch-resnet, and our prediction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common import Net, not_installed
from benchmarks.gpu_board import LONGEST, PREDICTION, SHORTEST, TRAINING, Board, describe
from benchmarks.gpu_nets import title
from benchmarks.sidebyside import Contender
from mxnet_resnet.base.errors import UserError

EXAMPLE, EAGER = "torch-resnet, float16 AMP as its example", "torch-resnet, bfloat16"
BEST = "torch-resnet at its best"
REFERENCES = {TRAINING: EXAMPLE, PREDICTION: EAGER}


@dataclass(frozen=True)
class GPUWay:
    """A function of gpu_steps.

    Attributes:
        needs: the packages without which there is no such way.
        several: whether it trains several seeds at once.
    """

    task: str
    title: str
    function: str
    needs: tuple[str, ...] = ("torch", "torch_resnet")
    several: bool = False


WAYS = (
    GPUWay(TRAINING, EXAMPLE, "example_training"),
    GPUWay(TRAINING, BEST, "best_training", several=True),
    GPUWay(PREDICTION, "ours, bfloat16", "own_prediction", needs=("torch",)),
    GPUWay(PREDICTION, EAGER, "eager_prediction"),
    GPUWay(PREDICTION, BEST, "best_prediction"),
)


class Entry:
    """A way that gets ready in a process of its own."""

    def __init__(self, way: GPUWay, net: Net, seeds: int, device: str, seconds: int):
        self.way, self.seeds, self.error = way, seeds, ""
        words = [way.function, *map(str, (*net, seeds)), device, str(seconds)]
        self.process = Contender(f"{way.title}, {way.task}, on {title(net)},", words)

    def wait(self, seconds: float) -> None:
        """Until it is ready; it may fail, which is told when it is to be measured."""
        try:
            self.process.wait_until_ready(seconds)
        except UserError as error:
            self.error = str(error)

    def compute(self, seconds: float) -> dict[str, float]:
        if self.error:
            raise UserError(self.error)
        try:
            return self.process.measure(seconds)
        finally:
            self.process.end()  # its memory is for the next


def measure_ways(board: Board, net: Net, seeds: Sequence[int], device: str, seconds: int) -> None:
    """All ways that are here, of one seed, and of more where they train several at once."""
    chosen = [
        (way, number) for way in WAYS if not not_installed(way.needs) for number in (seeds if way.several else [1])
    ]
    if board.seconds_left < SHORTEST:
        board.late += [describe(net, way.task, way.title, number) for way, number in chosen]
        return
    entries: list[Entry] = []
    begun = time.perf_counter()
    try:
        for way, number in chosen:
            entries.append(Entry(way, net, number, device, seconds))
        for entry in entries:
            entry.wait(max(0.1, min(begun + LONGEST - time.perf_counter(), board.seconds_left)))
        for entry in entries:
            board.measure(net, entry.way.task, entry.way.title, entry.seeds, entry.compute, 2 * seconds)
    finally:
        for entry in entries:
            entry.process.end()
