"""Flags completed: the defaults that follow from the data type, the name of a run, and the plan of its net."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import DATA_TYPES, DataType
from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.settings import flags
from mxnet_resnet.settings.flags import CUSTOM, Flags
from mxnet_resnet.settings.schedule import STEPS

FIRST_RATE = 0.1
SMALLEST_SIDE_WITH_IMAGENET_STEM = 65


def complete(given: Flags) -> argparse.Namespace:
    """Every flag with its value: what was given, and defaults that follow from the data type."""
    options = flags.parse(given)
    data = find_data_type(options)
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
    options.model_prefix = options.model_prefix or f"model/{name_run(options)}"
    return options


def find_data_type(options: argparse.Namespace) -> DataType:
    """Defaults for the data: of its type, and for custom data of CIFAR-10 or ImageNet, by the size of the images."""
    if options.data_type != CUSTOM:
        return DATA_TYPES[options.data_type]
    for flag in ("data_train", "data_val", "image_shape", "num_classes"):
        if getattr(options, flag) is None:
            raise UserError(f"--data-type custom needs --{flag.replace('_', '-')}")
    small = max(options.image_shape[1:], default=0) < SMALLEST_SIDE_WITH_IMAGENET_STEM
    return dataclasses.replace(DATA_TYPES["cifar10" if small else "imagenet"], aug_level=1)


def name_run(options: argparse.Namespace) -> str:
    """What to call a run that was given no name."""
    if options.recipe is not None:
        return Path(options.recipe).stem
    net, data_type = options.network, options.data_type
    name = f"{net}-{data_type}" if net else f"resnet-{data_type}-{options.depth}"
    return name + "".join(f"-{key}-{value}" for key, value in _changes_of_plan(options).items())


def find_plan(options: argparse.Namespace, stem: str) -> Architecture:
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
