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
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.engines.net import Gradients, Predictor, TrainedNet
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.runs.meters import Source

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
        deterministic: a GPU is to sum in a fixed order, so that equal runs are equal to the bit.
        compilation: whether the net is compiled, one of flags.COMPILATIONS: ``"auto"`` does it where it pays.
        steps: updates of the whole run, those before a start included, by which ``"auto"`` knows what pays.
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
    deterministic: bool = False
    compilation: str = "auto"
    steps: int = 0


class Pending(Source, Protocol):
    """The figures of a batch that is computed meanwhile: ``result`` waits for them.

    Attributes:
        updated: whether the weights were changed. Reading it waits in float16 alone, where gradients may overflow.
    """

    @property
    def updated(self) -> bool: ...


class Session(Protocol):
    """A net in training: weights, statistics and momentum, on the devices."""

    @property
    def in_flight(self) -> int:
        """How many steps may wait for their figures to be read, from 1 on: reading them makes the device wait."""

    def read(self, records: TrainingRecords, epoch: int, skip: int) -> Iterator[Batch] | None:
        """The batches of an epoch from the one at ``skip`` on, where the devices keep the data set themselves.

        Such a batch is for `step` alone: its images are there already. None: the records are to be read.
        """

    def read_validation(self, records: ValidationRecords) -> Iterator[Batch] | None:
        """The validation batches, as `read` gives those of an epoch; their labels are there."""

    def step(self, batch: Batch, number: int) -> Pending:
        """Forward, backward, sum over devices and workers, update.

        ``number`` is that of the update, from 0; a step that overflows float16 leaves it to the next one. What is drawn
        at random follows from it, so that a resumed run draws the same. The arrays of the batch are the session's from
        then on.
        """

    def validate(self, batch: Batch) -> Pending:
        """Forward alone. The figures count each image once, not the filling of the batch, and have its classes.

        Call `snapshot` before, after a step: from then on all workers have the same statistics.
        """

    def snapshot(self) -> Snapshot:
        """All that a checkpoint holds; all workers call it together.

        Every device and worker has these very weights and statistics from then on.
        """


class Group(Protocol):
    """The workers of a run. Each method is for all of them together: each has to call it, in the same order."""

    @property
    def rank(self) -> int:
        """The number of this worker, from 0."""

    @property
    def count(self) -> int:
        """The number of all workers."""

    @property
    def local_rank(self) -> int:
        """The number of this worker, from 0, among those that share a machine, its log and its batches."""

    @property
    def local_count(self) -> int:
        """The number of workers that share this machine; each has as large a part of --batch-size."""

    @property
    def alone(self) -> bool:
        """Whether there is but one, and none can join."""

    @property
    def store(self) -> str:
        """The name of what sums their gradients."""

    def add_up(self, values: Sequence[float]) -> list[float]:
        """The values, summed over the workers."""

    def all_same(self, text: str) -> bool:
        """Whether all workers have the same text."""

    def should_stop(self, told: bool) -> bool:
        """Whether any worker had been told to stop; once a step."""


class Model(Protocol):
    """A net that is to be trained, on paper: nothing is allocated yet."""

    @property
    def graph(self) -> str:
        """What ``PREFIX-symbol.json`` is to hold."""

    @property
    def shapes(self) -> Shapes:
        """Those of its parameters and statistics, by name."""

    @property
    def parameters(self) -> int:
        """The number of trained values."""

    @property
    def traits(self) -> Mapping[str, Any]:
        """What the rounding follows from besides settings and devices, for the identity of a run."""

    def prepare(self) -> list[str]:
        """Choose what to keep in memory; sentences for the log, on this and on how exactly a run can be repeated.

        Raises UserError where the budget is too small.
        """

    def start(self, group: Any, snapshot: Snapshot | None, step: int) -> Session:
        """Begin, or go on after ``step`` steps, from a snapshot, or from weights drawn from the seed.

        ``group`` is what `join` of this engine gave. Raises UserError where the workers have different weights.
        """


class Engine(Protocol):
    """Who computes."""

    @property
    def name(self) -> str:
        """What checkpoints note."""

    @property
    def reason(self) -> str:
        """Why `engines.choose` took it in place of MXNet, in a sentence; else empty."""

    @property
    def version(self) -> str:
        """That of the framework."""

    @property
    def readers(self) -> Sequence[str]:
        """The values of --data-backend, besides ours, that `read_epoch` takes."""

    def load(self, soon_done: bool = False) -> None:
        """Import the framework, in the fastest way where the command will be ``soon_done``. Raises UserError."""

    def prepare(self, store: str, cpus: int | None, threads: int | None = None, fixed: bool = False) -> list[str]:
        """Make the process ready for its part in a job, before the framework is loaded; sentences for the log.

        ``threads`` are those that a device of the run had which goes on here; ``fixed``: a new run is to have as many
        on this machine whatever else it does.

        A process that serves others does so in here, and ends by SystemExit. Raises UserError.
        """

    def choose_devices(self, gpus: Sequence[int] | None, cpus: int | None) -> Devices:
        """The devices asked for: these GPUs; the CPU for none of them; for None GPU 0 if it can serve, else the CPU.

        ``cpus`` asks for so many devices that share the cores. Raises UserError for a device that cannot serve.
        """

    def join(self, store: str, devices: Devices) -> AbstractContextManager[Group]:
        """The workers, for as long as this one takes part. Raises UserError where there is no such store.

        An engine with a process a device starts them in here, waits, and ends by SystemExit.
        """

    def model(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> Model:
        """A plan as a net to be trained. Raises UserError where the devices cannot train it so."""

    def trains_together(self, plan: Architecture, spec: TrainingSpec, devices: Devices) -> bool:
        """Whether several such nets are trained at once on these devices, by `unite`; else one after the other.

        Raises UserError where they would be, and cannot be in this dtype.
        """

    def unite(self, sessions: Sequence[Any]) -> Callable[[], None]:
        """Let the steps of several nets be computed at once.

        From then on `Session.step` notes a step, and what this returns computes those that were noted since; until
        then their figures are not to be read. Raises UserError where the memory is too little, with what would do.
        """

    def read_epoch(self, records: TrainingRecords, epoch: int, backend: str) -> Iterator[Batch]:
        """The batches of an epoch, read by the engine itself in one of its ``readers``. Raises UserError."""

    def versions(self) -> dict[str, str]:
        """Versions that figures may depend on."""

    def memory(self, devices: Devices) -> dict[str, float]:
        """MB that are taken on each GPU."""

    def adopt(self, net: TrainedNet) -> TrainedNet:
        """A net as it was read, in the form that this engine computes: its classes known, its arrays seen to fit.

        Raises UserError where they do not fit, and for a net that this engine cannot compute.
        """

    def predictor(self, net: TrainedNet, devices: Devices, batch_size: int, dtype: str) -> Predictor:
        """A net that was adopted, on the first of the devices, ``batch_size`` images at a time. Raises UserError."""

    def gradients(self, net: TrainedNet, devices: Devices) -> Gradients:
        """The last feature map of a net that was adopted, on the first of the devices. Raises UserError without one."""
