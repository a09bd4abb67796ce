"""From flags, a recipe or a program to the settings of a training run: completed from the data type, and checked.

``parse`` reads a command line, ``make`` takes values; both give RunSettings, and refuse what contradicts itself.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import DataType
from mxnet_resnet.runs import ledger
from mxnet_resnet.runs.start import Wanted
from mxnet_resnet.settings import flags, recipes
from mxnet_resnet.settings.completion import complete, find_data_type, find_plan
from mxnet_resnet.settings.contradictions import check_prefix, refuse_contradictions, settle_engine
from mxnet_resnet.settings.flags import ALTERNATIVES, Flags
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

# Flags that say how a run begins or ends here, and not what it is.
OF_A_START = ("resume", "recipe", "eval-only", "max-minutes")


def parse(arguments: Sequence[str] | None = None) -> RunSettings:
    """The settings of a command line without ``--seeds``, as `parse_runs`. Raises UserError."""
    (settings,) = parse_runs(arguments)
    return settings


def parse_runs(arguments: Sequence[str] | None = None) -> list[RunSettings]:
    """The settings of a command line, the one of this process by default: of a run, or of one for each of ``--seeds``.

    A flag that was given always wins; then come, with ``--resume``, those that the run began with, and those of the
    recipe. ``--max-minutes`` resumes too; with ``--retrain`` it does where the latest run began with the same flags.
    Raises UserError.
    """
    given = flags.given(arguments)
    if "resume" in given and "retrain" in given:
        raise UserError("--resume goes on with a run, --retrain begins another: give one of them")
    recipe = recipes.load(str(given["recipe"])) if "recipe" in given else {}
    return _parse_seeds(given, recipe) if "seeds" in given else [_parse_run(given, recipe)]


def _parse_seeds(given: Flags, recipe: Flags) -> list[RunSettings]:
    """The settings of several seeds, those that each has alone with its ``--seed`` and ``--model-prefix``."""
    if "seed" in given:
        raise UserError("--seed is that of one run, --seeds are those of several: give one of them")
    shared = {name: value for name, value in given.items() if name != "seeds"}
    prefix = str(given.get("model-prefix") or _settings(_over(recipe, shared), {*shared}).saving.prefix)
    check_prefix(prefix)
    several = [(seed, f"{prefix}-seed{seed}") for seed in str(given["seeds"]).split(",")]
    if "eval-only" in given:
        raise UserError(f"--eval-only measures one net: give --model-prefix {several[0][1]} in place of --seeds")
    runs = [_parse_run({**shared, "seed": seed, "model-prefix": one}, recipe) for seed, one in several]
    if any(run.devices.store.startswith("dist_") for run in runs):
        raise UserError("--seeds are trained by one process, and --kv-store dist_... joins several: give one of them")
    return [dataclasses.replace(run, series=Path(prefix).name) for run in runs]


def _parse_run(given: Flags, recipe: Flags) -> RunSettings:
    """The settings of one run."""
    flags_now, names = _over(recipe, given), {*given}
    if given.get("resume") or "max-minutes" in given:
        prefix = given.get("model-prefix") or _settings(flags_now, names).saving.prefix
        begun = dict(ledger.arguments(str(prefix)))
        begun_names = begun.pop(flags.GIVEN, "").split(",")
        if "retrain" in given and begun != _without_names(_settings(flags_now, names)):
            return _settings(flags_now, names)
        names.update(filter(None, begun_names))
        flags_now = {**_over(_over(recipe, begun), given), "resume": True}
        kept = flags_now.keys() & begun.keys() - given.keys() - {"model-prefix"}
        return _settings(flags_now, names, {name: value for name, value in begun.items() if name in kept})
    return _settings(flags_now, names)


def _without_names(settings: RunSettings) -> Flags:
    return {name: value for name, value in settings.start.arguments.items() if name != flags.GIVEN}


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


def _settings(given: Flags, names: set[str], remembered: Mapping[str, Any] = MappingProxyType({})) -> RunSettings:
    """The settings that flags describe, with all defaults; ``names`` are those that no recipe gave, ``remembered``
    those that earlier commands of the run gave.
    """
    options = complete(given)
    refuse_contradictions(options, given)
    arguments = {name: value for name, value in given.items() if name not in OF_A_START}
    arguments.update({"model-prefix": options.model_prefix, flags.GIVEN: ",".join(sorted(names))})
    restarts = options.retrain and "lr" in names
    data_type = find_data_type(options)
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
        epochs=options.epochs,
        arguments=arguments,
        remembered=remembered,
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
            plan=find_plan(options, data_type.stem),
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
            engine=settle_engine(options),
            gpus=None if options.gpus is None else tuple(options.gpus),
            cpus=options.cpus,
            store=options.kv_store,
            dtype=options.dtype,
            memonger=options.memonger,
            memonger_budget=options.memonger_budget,
            deterministic=options.deterministic,
            compilation=options.compile,
        ),
        saving=saving,
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        start=start,
        eval_only=options.eval_only,
        max_minutes=options.max_minutes,
        series=None,
        given=frozenset(names),
        flags=vars(options),
    )


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
        max_pixels=options.max_pixels,
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
