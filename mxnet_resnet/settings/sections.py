"""The settings of a training run, section by section: frozen, complete and checked (run.py makes them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxnet_resnet.data.augment import Augmentation, level
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.start import Wanted
from mxnet_resnet.settings.schedule import STEPS, Schedule


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Attributes:
        kind: a key of DATA_TYPES, or ``"custom"``.
        train, val: the records.
        later_train: the records from the epoch ``aug_off_epoch`` on, where there is one.
        image_shape: (C, H, W) at the net's input.
        classes: the number of labels.
        examples: training images that an epoch counts as for the learning rate; None: those that there are.
        aug_level: of the augmentation, 1 to 3; from ``aug_off_epoch`` on it is 1.
        pad: pixels of value 127 around an image before it is cropped.
        mirror: whether half of the images are mirrored.
        small: whether images are stored at the net's input size, as CIFAR's.
        mixup: pairs are mixed in shares from Beta(mixup, mixup); 0: they are not.
        backend: who reads the training records, one of datasets.BACKENDS.
        threads: that decode; None: one a core.
        max_pixels: of an image; None is the bound of `imagebounds`.
    """

    kind: str
    train: Path
    val: Path
    later_train: Path | None
    image_shape: ImageShape
    classes: int
    examples: int | None
    aug_level: int
    aug_off_epoch: int | None
    pad: int
    mirror: bool
    small: bool
    mixup: float
    backend: str
    threads: int | None
    max_pixels: int | None

    def is_later(self, epoch: int) -> bool:
        """Whether the augmentation is off in an epoch."""
        return self.aug_off_epoch is not None and epoch >= self.aug_off_epoch

    def records(self, epoch: int) -> Path:
        """Those that an epoch is trained on."""
        return self.later_train if self.later_train and self.is_later(epoch) else self.train

    def augmentation(self, epoch: int = -1) -> Augmentation:
        """That of an epoch, by default of one before `aug_off_epoch`."""
        return level(1 if self.is_later(epoch) else self.aug_level, small_images=self.small)


@dataclass(frozen=True)
class NetSettings:
    """The net to train.

    Attributes:
        network: its name, or None for the ResNet-v2 of ``depth``.
        depth: its layers, or None where it has a name.
        plan: what it is. Images enter as 0..255: a net that does not normalise them gets a BatchNorm in front.
        zero_init_residual: units start as their shortcuts alone.
        bn_momentum: of the BatchNorm statistics, as MXNet has it: the share that is kept.
        workspace: MB that one convolution may use on a GPU.
    """

    network: str | None
    depth: int | None
    plan: Architecture
    zero_init_residual: bool
    bn_momentum: float
    workspace: int

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return self.network or f"ResNet-v2 of depth {self.depth}"


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights follow from the gradients: SGD with momentum, plain (``sgd``) or Nesterov's (``nag``).

    Attributes:
        decayed: which parameters ``weight_decay`` is for, one of flags.DECAYED.
        label_smoothing: the share of a label's weight that goes evenly to the other classes.
    """

    name: str
    momentum: float
    weight_decay: float
    decayed: str
    label_smoothing: float


@dataclass(frozen=True)
class RateSettings:
    """The learning rate in epochs and for a batch; ``schedule`` has it in steps.

    Attributes:
        lr: behind the warm-up, for batches of ``batch`` where ``scaled``.
        way: how it falls, a key of schedule.WAYS.
        epochs: after which it is multiplied by ``factor``; ``iterations`` in their place where there are any.
        last_epoch: of the run, where ways other than ``steps`` end.
        begin_epoch: the epochs done before.
        restarts: whether ``lr`` is the rate from ``begin_epoch`` on, which only milestones ahead change.
        scaled: multiply by the batch over ``batch``.
    """

    lr: float
    way: str
    epochs: tuple[int, ...]
    iterations: tuple[int, ...]
    factor: float
    warmup_steps: int
    warmup_lr: float
    warmup_mode: str
    last_epoch: int
    begin_epoch: int
    restarts: bool
    scaled: bool
    batch: int

    def schedule(self, steps_per_epoch: int, batch: int) -> Schedule:
        """The learning rate of each step; ``batch`` is over all devices and workers."""
        begin = self.begin_epoch * steps_per_epoch if self.restarts else 0
        milestones = self.iterations or tuple(epoch * steps_per_epoch for epoch in self.epochs)
        by_steps = self.way == STEPS
        return Schedule(
            lr=self.lr * (batch / self.batch if self.scaled else 1),
            way=self.way,
            milestones=tuple(step for step in milestones if not self.restarts or step > begin) if by_steps else (),
            factor=self.factor,
            end=0 if by_steps else self.last_epoch * steps_per_epoch,
            begin=begin,
            warmup_steps=self.warmup_steps,
            warmup_lr=self.warmup_lr,
            warmup_mode=self.warmup_mode,
        )


@dataclass(frozen=True)
class DeviceSettings:
    """What computes.

    Attributes:
        engine: who, one of flags.ENGINES.
        gpus: their numbers; none of them: the CPU; None: GPU 0 if it can serve, else the CPU.
        cpus: devices to make of the CPU, or None.
        store: who sums gradients over devices and workers, one of flags.STORES.
        dtype: of convolutions and the classifier.
        memonger: compute activations again in place of keeping them.
        memonger_budget: MB of activations within which to take the least time, or None for the least memory.
        deterministic: compute to the bit the same on a GPU each time.
        compilation: whether PyTorch compiles the net, one of flags.COMPILATIONS.
    """

    engine: str
    gpus: tuple[int, ...] | None
    cpus: int | None
    store: str
    dtype: str
    memonger: bool
    memonger_budget: int | None
    deterministic: bool
    compilation: str


@dataclass(frozen=True)
class SavingSettings:
    """What a run leaves on disk.

    Attributes:
        prefix: checkpoints are ``PREFIX-0001.params`` ...
        log_dir: the log is ``LOG_DIR/NAME_OF_PREFIX/train.log``.
        keep: checkpoints to keep, the last ones and the best; None: all.
        every_batches: also save every so many batches; None: after each epoch alone.
        frequent: batches between two lines of the log.
        tensorboard: also write event files.
    """

    prefix: str
    log_dir: Path
    keep: int | None
    every_batches: int | None
    frequent: int
    tensorboard: bool


@dataclass(frozen=True)
class RunSettings:
    """All that ``train_resnet.py`` was asked for.

    Attributes:
        batch_size: images a step, over all devices of one worker.
        epochs: in all, those before the start included.
        seed: of the initial weights, the order and the augmentation.
        start: where to start.
        eval_only: measure a checkpoint in place of training.
        max_minutes: after which it stops with a checkpoint, or None.
        series: what the runs of ``--seeds`` are called together, where this is one of them.
        given: the flags that no recipe gave, by their names.
        flags: every flag with its value, as a log tells them.
    """

    data: DataSettings
    net: NetSettings
    optimizer: OptimizerSettings
    rate: RateSettings
    devices: DeviceSettings
    saving: SavingSettings
    batch_size: int
    epochs: int
    seed: int
    start: Wanted
    eval_only: bool
    max_minutes: float | None
    series: str | None
    given: frozenset[str]
    flags: Mapping[str, Any]
