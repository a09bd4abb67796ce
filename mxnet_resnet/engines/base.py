"""What an engine is: whoever computes. The loop, the records, the checkpoints and the log do not know which one it is.

Batches, snapshots and scores are NumPy at this boundary. Arrays have the names of the published MXNet ResNet-v2
checkpoints in every engine, so that a checkpoint is an engine's output and any engine's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.engines.net import Gradients, Predictor, TrainedNet
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.runs.meters import Figures

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Devices:
    """The devices that a command computes on.

    Attributes:
        handles: as the engine calls them.
        kind: ``"cpu"`` or ``"gpu"``.
        note: what was chosen and why, in a line for the log.
    """

    handles: Sequence[Any]
    kind: str
    note: str

    def __len__(self) -> int:
        return len(self.handles)


@dataclass(frozen=True)
class TrainingSpec:
    """How a net is trained, as far as an engine has to know.

    Attributes:
        classes: the number of labels.
        image_shape: (C, H, W) of the images.
        batch_size: images a step, over all devices of this worker.
        schedule: the learning rate of each step, from 0.
        seed: of the initial weights and of dropout.
        dtype: of convolutions and the classifier: float32, bfloat16 or float16.
        optimizer: ``"nag"`` or ``"sgd"``, with ``momentum`` and ``weight_decay`` in the units of MXNet.
        decayed: which parameters decay: ``"weights"``, ``"gammas"`` (and weights) or ``"all"``.
        label_smoothing: the share of a label's weight that goes evenly to the other classes.
        soft_labels: labels come as distributions (N, classes), smooth already.
        zero_init_residual: units start as their shortcuts alone.
        bn_momentum: the share of the running statistics that a step keeps.
        workspace: MB that one convolution may use on a GPU.
        memonger: compute activations again in place of keeping them, within ``memonger_budget`` MB where that is given.
    """

    classes: int
    image_shape: tuple[int, int, int]
    batch_size: int
    schedule: Callable[[int], float]
    seed: int = 0
    dtype: str = "float32"
    optimizer: str = "nag"
    momentum: float = 0.9
    weight_decay: float = 0.0001
    decayed: str = "gammas"
    label_smoothing: float = 0.0
    soft_labels: bool = False
    zero_init_residual: bool = False
    bn_momentum: float = 0.9
    workspace: int = 512
    memonger: bool = False
    memonger_budget: int | None = None


class Pending(Protocol):
    """The figures of a batch that is computed meanwhile.

    Attributes:
        updated: whether the weights were changed: not where gradients overflowed float16.
    """

    updated: bool

    def result(self) -> Figures:
        """The figures, once they are there; the same ones again at each call."""


class Session(Protocol):
    """A net in training: weights, statistics and momentum, on the devices."""

    def step(self, batch: Batch, number: int) -> Pending:
        """Forward, backward, sum over devices and workers, update; ``number`` is that of the step, from 0.

        What is drawn at random in a step follows from its number, so that a resumed run draws the same.
        """

    def validate(self, batch: Batch) -> Pending:
        """Forward alone; the figures count each image once, not the filling of the batch, and tell the classes."""

    def snapshot(self) -> Snapshot:
        """All that a checkpoint holds. Every device and worker has these very weights and statistics from then on."""


class Group(Protocol):
    """The workers of a run. Each method is for all of them together: each has to call it, in the same order.

    Attributes:
        rank, count: the number of this worker, from 0, and of all.
        alone: whether there is but one, and none can join.
        asynchronous: whether the workers do not share their steps.
        store: the name of what sums their gradients.
    """

    rank: int
    count: int
    alone: bool
    asynchronous: bool
    store: str

    def total(self, values: Sequence[float]) -> list[float]:
        """The values, summed over the workers."""

    def agreed(self, told: bool) -> bool:
        """Whether any worker says so."""

    def same(self, text: str) -> bool:
        """Whether all workers have the same text."""

    def stop(self, told: bool) -> bool:
        """Whether any worker had been told to stop; once a step."""


class Model(Protocol):
    """A net that is to be trained, on paper: nothing is allocated yet.

    Attributes:
        graph: what ``PREFIX-symbol.json`` is to hold.
        shapes: of its parameters and statistics, by name.
        parameters: the number of trained values.
        traits: what the rounding follows from besides the settings, for the identity of a run.
    """

    graph: str
    shapes: Shapes
    parameters: int
    traits: Mapping[str, Any]

    def plan_memory(self) -> list[str]:
        """Choose what to keep in memory; sentences for the log. Raises UserError where the budget is too small."""

    def start(self, group: Group, snapshot: Snapshot | None, step: int) -> Session:
        """Begin, or go on after ``step`` steps, from a snapshot, or from weights drawn from the seed."""


class Engine(Protocol):
    """Who computes.

    Attributes:
        name: as checkpoints note it.
        version: of the framework.
    """

    name: str
    version: str

    def load(self, soon_done: bool = False) -> None:
        """Import the framework, in the fastest way where the command will be ``soon_done``. Raises UserError."""

    def prepare(self, store: str, cpus: int | None) -> None:
        """Make the process ready for its part in a job, before the framework is loaded.

        In a process that serves others this is all there is: it ends here. Raises UserError.
        """

    def choose_devices(self, gpus: Sequence[int] | None, cpus: int | None) -> Devices:
        """The devices asked for: these GPUs; the CPU for none of them; for None GPU 0 if it can serve, else the CPU.

        ``cpus`` asks for so many devices that share the cores. Raises UserError for a device that cannot serve.
        """

    def join(self, store: str) -> AbstractContextManager[Group]:
        """The workers, for as long as this one takes part. Raises UserError where there is no such store."""

    def model(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> Model:
        """A plan as a net to be trained. Raises UserError where the devices cannot train it so."""

    def read_epoch(self, records: TrainingRecords, epoch: int, backend: str) -> Iterator[Batch]:
        """The batches of an epoch, read by the engine itself. Raises UserError where it has no such reader."""

    def versions(self) -> dict[str, str]:
        """Versions that figures may depend on."""

    def memory(self, devices: Devices) -> dict[str, float]:
        """MB that are taken on each GPU."""

    def predictor(self, net: TrainedNet, devices: Devices, batch_size: int, dtype: str) -> Predictor:
        """A trained net on the first of the devices, ``batch_size`` images at a time. Raises UserError."""

    def gradients(self, net: TrainedNet, devices: Devices) -> Gradients:
        """A trained net's last feature map on the first of the devices. Raises UserError for a net without one."""
