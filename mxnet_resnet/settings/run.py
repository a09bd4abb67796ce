"""From flags, a recipe or a program to the settings of a training run: completed from the data type, and checked.

``parse`` reads a command line, ``make`` takes values; both give RunSettings, and refuse what contradicts itself.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import DATA_TYPES, OURS, DataType
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import ledger
from mxnet_resnet.runs.start import Wanted
from mxnet_resnet.settings import flags, recipes
from mxnet_resnet.settings.flags import ALTERNATIVES, CUSTOM, Flags
from mxnet_resnet.settings.schedule import STEPS
from mxnet_resnet.settings.sections import (
    DataSettings,
    DeviceSettings,
    NetSettings,
    OptimizerSettings,
    RateSettings,
    RunSettings,
    SavingSettings,
)

FIRST_RATE = 0.1
SMALLEST_SIDE_WITH_IMAGENET_STEM = 65
OF_A_START = ("resume", "recipe", "eval-only")  # flags that say how a run begins here, and not what it is


def parse(arguments: Sequence[str] | None = None) -> RunSettings:
    """The settings of a command line, the one of this process by default. Raises UserError.

    A flag that was given always wins; then come, with ``--resume``, those that the run began with, and those of the
    recipe.
    """
    given = flags.given(arguments)
    if "resume" in given and "retrain" in given:
        raise UserError("--resume goes on with a run, --retrain begins another: give one of them")
    recipe = recipes.load(str(given["recipe"])) if "recipe" in given else {}
    flags_now, names = _over(recipe, given), {*given}
    if given.get("resume"):
        prefix = given.get("model-prefix") or _settings(flags_now, names).saving.prefix
        begun = dict(ledger.arguments(str(prefix)))
        names.update(filter(None, begun.pop(flags.GIVEN, "").split(",")))
        flags_now = _over(_over(recipe, begun), given)
    return _settings(flags_now, names)


def make(**values: Any) -> RunSettings:
    """The settings that the flags of these names have, the rest by default: ``make(data_type="cifar10", depth=20)``.

    Raises UserError as `parse`.
    """
    given = {name.replace("_", "-"): flags.as_text(value) for name, value in values.items() if value is not None}
    return _settings(given, {*given})


def _over(before: Flags, given: Flags) -> Flags:
    """Flags, and others that win over them; one of a pair of alternatives removes the other."""
    gone = {other for pair in ALTERNATIVES for one, other in (pair, pair[::-1]) if one in given}
    if given.get("lr-schedule", STEPS) != STEPS:
        gone |= {"lr-steps", "lr-iterations"}
    if given.keys() & {"lr-steps", "lr-iterations"}:
        gone.add("lr-schedule")
    if given.get("memonger") is False:
        gone.add("memonger-budget")
    return {**{name: value for name, value in before.items() if name not in gone}, **given}


def _settings(given: Flags, names: set[str]) -> RunSettings:
    """The settings that flags describe, with all defaults; ``names`` are those that no recipe gave."""
    options = _completed(given)
    _refuse_contradictions(options, given)
    arguments = {name: value for name, value in given.items() if name not in OF_A_START}
    arguments.update({"model-prefix": options.model_prefix, flags.GIVEN: ",".join(sorted(names))})
    restarts = options.retrain and "lr" in names
    data_type = _data_type(options)
    start = Wanted(
        prefix=options.model_prefix,
        resume=options.resume,
        retrain=options.retrain,
        epoch=options.model_load_epoch,
        params=options.load_params,
        reset_optimizer=options.reset_optimizer,
        new_rate="lr" in names,
        momentum=options.mom,
        keeps_momentum=options.kv_store != "dist_async",
        arguments=arguments,
    )
    saving = SavingSettings(
        prefix=options.model_prefix,
        log_dir=options.log_dir,
        keep=options.keep,
        every_batches=options.save_batches,
        frequent=options.frequent,
        tensorboard=options.tensorboard,
    )
    return RunSettings(
        data=_data(options, data_type),
        net=NetSettings(
            network=options.network,
            depth=options.depth,
            plan=_plan(options, data_type.stem),
            zero_init_residual=options.zero_init_residual,
            bn_momentum=options.bn_mom,
            workspace=options.workspace,
        ),
        optimizer=OptimizerSettings(
            name=options.optimizer,
            momentum=options.mom,
            weight_decay=options.wd,
            decayed=options.wd_on,
            label_smoothing=options.label_smoothing,
        ),
        rate=_rate(options, restarts, "warmup-steps" in names),
        devices=DeviceSettings(
            engine="mxnet" if options.engine == "auto" and _needs_mxnet(options) else options.engine,
            gpus=None if options.gpus is None else tuple(options.gpus),
            cpus=options.cpus,
            store=options.kv_store,
            dtype=options.dtype,
            memonger=options.memonger,
            memonger_budget=options.memonger_budget,
            deterministic=options.deterministic,
        ),
        saving=saving,
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        start=start,
        eval_only=options.eval_only,
        given=frozenset(names),
        flags=vars(options),
    )


def _completed(given: Flags) -> argparse.Namespace:
    """Every flag with its value: what was given, and defaults that follow from the data type."""
    options = flags.parse(given)
    data = _data_type(options)
    by_steps = options.lr_iterations is None and options.lr_schedule == STEPS
    defaults = {
        "lr": FIRST_RATE,
        "lr_batch": data.batch_size,
        "image_shape": data.image_shape,
        "num_classes": data.num_classes,
        "batch_size": data.batch_size,
        "epochs": data.epochs,
        "lr_steps": list(data.lr_steps) if by_steps else [],
        "lr_iterations": [],
        "aug_level": data.aug_level,
        "frequent": data.frequent,
        "data_dir": Path("data", options.data_type),
    }
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    later = options.data_train or options.data_dir / data.train[1]
    options.data_train_off = None if options.aug_off_epoch is None else later
    options.data_train = options.data_train or options.data_dir / data.train[options.aug_level]
    options.data_val = options.data_val or options.data_dir / data.val
    if options.network is None and options.depth is None:
        options.depth = data.depth
    if options.retrain and options.load_params is not None and options.model_load_epoch is None:
        options.model_load_epoch = 0
    options.memonger = options.memonger or options.memonger_budget is not None
    options.model_prefix = options.model_prefix or f"model/{_name_run(options)}"
    return options


def _data(options: argparse.Namespace, data_type: DataType) -> DataSettings:
    """What is trained on."""
    return DataSettings(
        kind=options.data_type,
        train=options.data_train,
        val=options.data_val,
        later_train=options.data_train_off,
        image_shape=options.image_shape,
        classes=options.num_classes,
        examples=options.num_examples,
        aug_level=options.aug_level,
        aug_off_epoch=options.aug_off_epoch,
        pad=data_type.pad,
        mirror=data_type.mirror,
        small=data_type.stem == "cifar",
        mixup=options.mixup,
        backend=options.data_backend,
        threads=options.data_nthreads,
    )


def _rate(options: argparse.Namespace, restarts: bool, warms_up: bool) -> RateSettings:
    """The learning rate; where it restarts, the warm-up of a recipe does not come again."""
    return RateSettings(
        lr=options.lr,
        way=options.lr_schedule,
        epochs=tuple(options.lr_steps),
        iterations=tuple(options.lr_iterations),
        factor=options.lr_factor,
        warmup_steps=options.warmup_steps if not restarts or warms_up else 0,
        warmup_lr=options.warmup_lr,
        warmup_mode=options.warmup_mode,
        last_epoch=options.epochs,
        begin_epoch=options.model_load_epoch or 0,
        restarts=restarts,
        scaled=options.scale_lr,
        batch=options.lr_batch,
    )


def _name_run(options: argparse.Namespace) -> str:
    """What to call a run that was given no name."""
    if options.recipe is not None:
        return Path(options.recipe).stem
    net, data_type = options.network, options.data_type
    name = f"{net}-{data_type}" if net else f"resnet-{data_type}-{options.depth}"
    return name + "".join(f"-{key}-{value}" for key, value in _changes_of_plan(options).items())


def _plan(options: argparse.Namespace, stem: str) -> Architecture:
    """The plan of the net. Raises UserError for a name or a depth there is not."""
    if options.network is None:
        plan = architecture.symbolic_v2(options.depth, stem)
    else:
        plan = architecture.find(options.network)
        small = plan.small_images or stem == "cifar"
        plan = dataclasses.replace(plan, small_images=small, data_norm=plan.data_norm or "plain")
    changes = _changes_of_plan(options)
    if "shortcut" in changes:  # it counts in the first units too, which ResNet-v2 projects anyway
        changes["project_first"] = False
    return dataclasses.replace(plan, **changes)


def _changes_of_plan(options: argparse.Namespace) -> dict[str, Any]:
    """What flags change of the plan that a name or a depth gives."""
    values = {"width": options.width, "drop_rate": options.drop_rate, "shortcut": options.shortcut}
    return {name: value for name, value in values.items() if value is not None}


def _data_type(options: argparse.Namespace) -> DataType:
    """Defaults for the data: of its type, and for custom data of CIFAR-10 or ImageNet, by the size of the images."""
    if options.data_type != CUSTOM:
        return DATA_TYPES[options.data_type]
    for flag in ("data_train", "data_val", "image_shape", "num_classes"):
        if getattr(options, flag) is None:
            raise UserError(f"--data-type custom needs --{flag.replace('_', '-')}")
    small = max(options.image_shape[1:], default=0) < SMALLEST_SIDE_WITH_IMAGENET_STEM
    return dataclasses.replace(DATA_TYPES["cifar10" if small else "imagenet"], aug_level=1)


def _needs_mxnet(options: argparse.Namespace) -> str | None:
    """The flag that MXNet alone can do, with its value."""
    if options.kv_store.startswith("dist_"):
        return f"--kv-store {options.kv_store}"
    return f"--data-backend {options.data_backend}" if options.data_backend != OURS else None


def _refuse_contradictions(options: argparse.Namespace, given: Flags) -> None:
    """Raise UserError for values that contradict each other or mean nothing."""
    if not Path(options.model_prefix).name or options.model_prefix.endswith("/"):
        raise UserError(
            f"--model-prefix {options.model_prefix} is a folder: add a name, as in {options.model_prefix}net"
        )
    if options.engine == "torch" and (flag := _needs_mxnet(options)):
        instead = (
            "torchrun joins PyTorch's workers (docs/distributed.md)"
            if "kv-store" in flag
            else f"take --data-backend {OURS}"
        )
        raise UserError(f"{flag} is MXNet's, and --engine is torch: {instead}")
    if options.eval_only:
        if options.retrain:
            raise UserError("--eval-only trains nothing, and --retrain does: give one of them")
        return
    if options.retrain != (options.model_load_epoch is not None):
        raise UserError("--retrain and --model-load-epoch go together: the epoch says which parameters to start from")
    if not options.retrain and (options.load_params is not None or options.reset_optimizer):
        raise UserError("--load-params and --reset-optimizer go with --retrain")
    if options.memonger_budget is not None and given.get("memonger") is False:
        raise UserError("--memonger-budget and --no-memonger contradict each other: give one of them")
    for one, other in ALTERNATIVES:
        if {one, other} <= given.keys():
            raise UserError(f"--{one} and --{other} say the same in two ways: give one of them")
    if options.retrain and options.model_load_epoch >= options.epochs:
        raise UserError(
            f"--model-load-epoch {options.model_load_epoch} leaves nothing to train of --epochs {options.epochs}"
        )
    _refuse_rates(options, given)


def _refuse_rates(options: argparse.Namespace, given: Flags) -> None:
    for flag, values in (("lr-steps", options.lr_steps), ("lr-iterations", options.lr_iterations)):
        if values and (sorted(set(values)) != values or values[0] < 1):
            raise UserError(f"--{flag} {','.join(map(str, values))} are not whole numbers from 1 on in rising order")
    if options.lr_schedule != STEPS and ("lr-steps" in given or options.lr_iterations):
        raise UserError(f"--lr-schedule {options.lr_schedule} has no steps: give no --lr-steps and --lr-iterations")
