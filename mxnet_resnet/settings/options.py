"""The options of train_resnet.py: what was given, a recipe, a run to resume, and what follows from the data type."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import DATA_TYPES, DataType
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import ledger
from mxnet_resnet.settings import flags, recipes
from mxnet_resnet.settings.flags import CUSTOM

ALTERNATIVES = (("network", "depth"), ("lr-steps", "lr-iterations"), ("gpus", "cpus"))
GIVEN = "given"  # beside the flags of a run: the names of those that no recipe gave
SMALLEST_SIDE_WITH_IMAGENET_STEM = 65


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, completed from the data type. Raises UserError.

    A flag that was given always wins; then come, with ``--resume``, those that the run began with, and those of the
    recipe. ``options.arguments`` are all of them as flags, ``options.given`` the names of those that no recipe gave.
    """
    given = flags.given(arguments)
    if "resume" in given and "retrain" in given:
        raise UserError("--resume goes on with a run, --retrain begins another: give one of them")
    recipe = recipes.load(given["recipe"]) if "recipe" in given else {}
    flags_now, names = _over(recipe, given), {*given}
    if given.get("resume"):
        begun = ledger.arguments(given.get("model-prefix") or _complete(flags_now).model_prefix)
        names.update(filter(None, begun.pop(GIVEN, "").split(",")))
        flags_now = _over(_over(recipe, begun), given)
    options = _complete(flags_now)
    options.given = names
    options.arguments[GIVEN] = ",".join(sorted(names))
    return options


def _over(before: flags.Flags, given: flags.Flags) -> flags.Flags:
    """Flags, and others that win over them; one of a pair of alternatives removes the other."""
    gone = {other for pair in ALTERNATIVES for one, other in (pair, pair[::-1]) if one in given}
    if given.get("lr-schedule") == "cosine":
        gone |= {"lr-steps", "lr-iterations"}
    if given.keys() & {"lr-steps", "lr-iterations"}:
        gone.add("lr-schedule")
    if given.get("memonger") is False:
        gone.add("memonger-budget")
    return {**{name: value for name, value in before.items() if name not in gone}, **given}


def _complete(given: flags.Flags) -> argparse.Namespace:
    """The options that flags describe, with all defaults."""
    options = flags.parse(given)
    data = _data_type(options)
    defaults = {
        "lr_batch": data.batch_size,
        "image_shape": data.image_shape,
        "num_classes": data.num_classes,
        "batch_size": data.batch_size,
        "epochs": data.epochs,
        "lr_steps": list(data.lr_steps) if options.lr_iterations is None and options.lr_schedule == "steps" else [],
        "aug_level": data.aug_level,
        "frequent": data.frequent,
        "data_dir": Path("data", options.data_type),
    }
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.stem, options.pad, options.mirror = data.stem, data.pad, data.mirror
    level_1 = options.data_train or options.data_dir / data.train[1]
    options.data_train_off = None if options.aug_off_epoch is None else level_1
    options.data_train = options.data_train or options.data_dir / data.train[options.aug_level]
    options.data_val = options.data_val or options.data_dir / data.val
    if options.network is None and options.depth is None:
        options.depth = data.depth
    if options.retrain and options.load_params is not None and options.model_load_epoch is None:
        options.model_load_epoch = 0
    options.memonger = options.memonger or options.memonger_budget is not None
    options.model_prefix = options.model_prefix or f"model/{_name(options)}"
    options.arguments = {name: value for name, value in given.items() if name not in ("resume", "recipe", "eval-only")}
    options.arguments["model-prefix"] = options.model_prefix
    _check(options)
    return options


def _name(options: argparse.Namespace) -> str:
    """What to call a run that was given no name."""
    if options.recipe is not None:
        return Path(options.recipe).stem
    net, data_type = options.network, options.data_type
    name = f"{net}-{data_type}" if net else f"resnet-{data_type}-{options.depth}"
    return name + "".join(f"-{key}-{value}" for key, value in _net_options(options).items() if value is not None)


def network_plan(options: argparse.Namespace) -> architecture.Architecture:
    """The plan of the net to train. Raises UserError for a name or a depth there is not.

    Images enter as 0..255: a net that does not normalise them itself gets a BatchNorm without parameters in front.
    """
    if options.network is None:
        plan = architecture.symbolic_v2(options.depth, options.stem)
    else:
        plan = architecture.find(options.network)
        small = plan.small_images or options.stem == "cifar"
        plan = dataclasses.replace(plan, small_images=small, data_norm=plan.data_norm or "plain")
    given = {name: value for name, value in _net_options(options).items() if value is not None}
    if "shortcut" in given:  # it counts in the first units too, which ResNet-v2 projects anyway
        given["project_first"] = False
    return dataclasses.replace(plan, **given)


def _net_options(options: argparse.Namespace) -> dict[str, object]:
    return {"width": options.width, "drop_rate": options.drop_rate, "shortcut": options.shortcut}


def _data_type(options: argparse.Namespace) -> DataType:
    """Defaults for the data: of its type, and for custom data of CIFAR-10 or ImageNet, by the size of the images."""
    if options.data_type != CUSTOM:
        return DATA_TYPES[options.data_type]
    for flag in ("data_train", "data_val", "image_shape", "num_classes"):
        if getattr(options, flag) is None:
            raise UserError(f"--data-type custom needs --{flag.replace('_', '-')}")
    small = max(options.image_shape[1:], default=0) < SMALLEST_SIDE_WITH_IMAGENET_STEM
    return dataclasses.replace(DATA_TYPES["cifar10" if small else "imagenet"], aug_level=1)


def _check(options: argparse.Namespace) -> None:
    """Refuse values that contradict each other or mean nothing."""
    network_plan(options)
    if not Path(options.model_prefix).name or options.model_prefix.endswith("/"):
        raise UserError(
            f"--model-prefix {options.model_prefix} is a folder: add a name, as in {options.model_prefix}net"
        )
    if options.eval_only:
        if options.retrain:
            raise UserError("--eval-only trains nothing, and --retrain does: give one of them")
        return
    if options.retrain != (options.model_load_epoch is not None):
        raise UserError("--retrain and --model-load-epoch go together: the epoch says which parameters to start from")
    if not options.retrain and (options.load_params is not None or options.reset_optimizer):
        raise UserError("--load-params and --reset-optimizer go with --retrain")
    if options.memonger_budget is not None and options.arguments.get("memonger") is False:
        raise UserError("--memonger-budget and --no-memonger contradict each other: give one of them")
    for one, other in ALTERNATIVES:
        if {one, other} <= options.arguments.keys():
            raise UserError(f"--{one} and --{other} say the same in two ways: give one of them")
    if options.retrain and options.model_load_epoch >= options.epochs:
        raise UserError(
            f"--model-load-epoch {options.model_load_epoch} leaves nothing to train of --epochs {options.epochs}"
        )
    _check_learning_rate(options)


def _check_learning_rate(options: argparse.Namespace) -> None:
    for flag, values in (("lr-steps", options.lr_steps), ("lr-iterations", options.lr_iterations)):
        if values and (sorted(set(values)) != values or values[0] < 1):
            raise UserError(f"--{flag} {','.join(map(str, values))} are not whole numbers from 1 on in rising order")
    if options.lr_schedule == "cosine" and ("lr-steps" in options.arguments or options.lr_iterations):
        raise UserError("--lr-schedule cosine has no steps: give no --lr-steps and --lr-iterations")
