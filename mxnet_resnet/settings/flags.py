"""The flags of train_resnet.py, and flags as text, which is how recipes and checkpoints keep them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mxnet_resnet.base.arguments import Parser, integer, integers, number, positive, seeds, shape
from mxnet_resnet.data import imagebounds
from mxnet_resnet.data.datasets import BACKENDS, DATA_TYPES
from mxnet_resnet.plans import architecture
from mxnet_resnet.settings.listing import Listing, list_networks, list_recipes
from mxnet_resnet.settings.schedule import STEPS, WARMUPS, WAYS

CUSTOM = "custom"
ALTERNATIVES = (("network", "depth"), ("lr-steps", "lr-iterations"), ("gpus", "cpus"))
GIVEN = "given"  # beside the flags of a run: the names of those that no recipe gave
ENGINES = ("auto", "mxnet", "torch")
STORES = ("local", "device", "nccl", "dist_sync", "dist_device_sync", "dist_async")
DTYPES = ("float32", "bfloat16", "float16")
COMPILATIONS = ("auto", "no", "yes", "max-autotune")
OPTIMIZERS = ("nag", "sgd")
DECAYED = ("weights", "gammas", "all")
SWITCH = argparse.BooleanOptionalAction

Flags = dict[str, Any]  # by name without dashes: {"batch-size": "64", "memonger": True}


def parser() -> Parser:
    """The command line of train_resnet.py. A default of None follows from the data type."""
    result = Parser("Train a ResNet on RecordIO images.")
    result.add_argument("--recipe", help="flags from recipes/RECIPE.yaml, or from a file; those given here win")
    result.add_argument("--list-recipes", action=Listing, text=list_recipes, help="print the recipes and their results")
    result.add_argument("--list-networks", action=Listing, text=list_networks, help="print the names of --network")
    _add_data(result.add_argument_group("data"))
    _add_network(result.add_argument_group("network"))
    _add_training(result.add_argument_group("training"))
    _add_learning_rate(result.add_argument_group("learning rate"))
    _add_devices(result.add_argument_group("devices"))
    _add_run(result.add_argument_group("run"))
    return result


def list_groups() -> dict[str, list[str]]:
    """The flags by the titles of their groups, as `parse` names them; one of no group is under ``"general"``."""
    groups: dict[str, list[str]] = {}
    command_line = parser()
    titles = {action.dest: group.title for group in command_line._action_groups[2:] for action in group._group_actions}
    for name in vars(command_line.parse_args([])):
        groups.setdefault(titles.get(name) or "general", []).append(name)
    return groups


def given(arguments: Sequence[str] | None) -> Flags:
    """The flags of a command line, and no defaults, as text. Raises UserError for what is no flag or value."""
    unset, command_line = object(), parser()
    nothing = argparse.Namespace(**dict.fromkeys(vars(command_line.parse_args([])), unset))
    values = vars(command_line.parse_args(arguments, nothing))
    return {name.replace("_", "-"): as_text(value) for name, value in values.items() if value is not unset}


def parse(flags: Mapping[str, object]) -> argparse.Namespace:
    """The options of flags as `given` has them, and the defaults of the rest. Raises UserError."""
    return parser().parse_args([word for name, value in flags.items() for word in _words(name, value)])


def as_text(value: object) -> object:
    """The value of a flag as recipes and checkpoints keep it: a truth value as it is, all else as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}={value}"]


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument("--data-type", choices=[*DATA_TYPES, CUSTOM], default="imagenet", help="the data set")
    data.add_argument("--data-dir", type=Path, help="folder of its records (data/DATA_TYPE)")
    data.add_argument("--data-train", type=Path, help="training records, instead of those in --data-dir")
    data.add_argument("--data-val", type=Path, help="validation records, instead of those in --data-dir")
    data.add_argument("--image-shape", type=shape, help="channels, height and width of the net's input: 3,224,224")
    data.add_argument("--num-classes", type=integer(), help="number of classes")
    data.add_argument("--num-examples", type=integer(), help="training images, for the learning rate steps (counted)")
    data.add_argument(
        "--aug-level",
        type=int,
        choices=[1, 2, 3],
        help="1: random crop and mirror; 2: scale, aspect and colour too; 3: rotation and shear too",
    )
    data.add_argument(
        "--aug-off-epoch", type=integer(0), help="epoch from which on the augmentation is of level 1, e.g. 95 of 120"
    )
    data.add_argument(
        "--mixup", type=number(0), default=0.0, help="mix pairs of images, in shares from Beta(MIXUP, MIXUP); 0: do not"
    )
    data.add_argument("--data-backend", choices=BACKENDS, default=BACKENDS[0], help="who decodes")
    data.add_argument("--data-nthreads", type=integer(high=1024), help="threads that decode (one a core)")
    imagebounds.add_flag(data)


def _add_network(net: argparse._ArgumentGroup) -> None:
    net.add_argument("--depth", type=integer(), help="layers of a ResNet-v2: 50 for imagenet, 164 for cifar10")
    net.add_argument("--network", help="another net instead, by its name: preact_resnet20 (--list-networks)")
    net.add_argument("--width", type=integer(high=1024), help="factor on the channels of the 3x3 convolutions")
    net.add_argument(
        "--drop-rate", type=number(0, 1, high_included=False), help="dropout in basic units, from 0 to below 1"
    )
    net.add_argument("--shortcut", choices=architecture.SHORTCUT_NAMES, help="how units with a new shape are passed by")
    net.add_argument("--zero-init-residual", action=SWITCH, default=False, help="units start as their shortcuts alone")
    net.add_argument("--bn-mom", type=number(0, 1), default=0.9, help="momentum of the BatchNorm statistics")
    net.add_argument("--workspace", type=integer(), default=512, help="MB that one convolution may use on a GPU")


def _add_training(training: argparse._ArgumentGroup) -> None:
    training.add_argument("--batch-size", type=integer(), help="images a step, over all devices of one worker")
    training.add_argument("--epochs", type=integer(), help="epochs in all, those before --model-load-epoch included")
    training.add_argument("--optimizer", choices=OPTIMIZERS, default="nag", help="momentum: Nesterov's or plain")
    training.add_argument("--mom", type=number(0, 1, high_included=False), default=0.9, help="momentum")
    training.add_argument("--wd", type=number(0), default=0.0001, help="weight decay")
    training.add_argument(
        "--wd-on",
        choices=DECAYED,
        default="gammas",
        help="what decays: weights of convolutions and the classifier; gammas of BatchNorms too; all, betas too",
    )
    training.add_argument(
        "--label-smoothing",
        type=number(0, 1, high_included=False),
        default=0.0,
        help="share of a label's weight that goes evenly to the other classes",
    )
    training.add_argument(
        "--seed", type=integer(0), default=0, help="of the initial weights, the order and the augmentation"
    )
    training.add_argument(
        "--seeds",
        type=seeds,
        help="several runs that differ in it, at once where the devices can: 111,222,333, with PREFIX-seed111 ...",
    )


def _add_learning_rate(rate: argparse._ArgumentGroup) -> None:
    rate.add_argument("--lr", type=number(0), help="learning rate, or the one from --model-load-epoch on (0.1)")
    rate.add_argument("--lr-schedule", choices=list(WAYS), default=STEPS, help="how it falls")
    rate.add_argument("--lr-steps", type=integers, help="epochs after which it is multiplied by --lr-factor, or none")
    rate.add_argument("--lr-iterations", type=integers, help="the same in steps, instead: 32000,48000")
    rate.add_argument("--lr-factor", type=number(0, 1), default=0.1, help="of --lr-steps and --lr-iterations")
    rate.add_argument("--warmup-steps", type=integer(0), default=0, help="steps before --lr holds")
    rate.add_argument("--warmup-lr", type=number(0), default=0.01, help="learning rate at the first step of these")
    rate.add_argument("--warmup-mode", choices=WARMUPS, default="constant", help="how it goes on")
    rate.add_argument("--scale-lr", action=SWITCH, default=False, help="multiply --lr by the batch over --lr-batch")
    rate.add_argument("--lr-batch", type=integer(), help="the batch that --lr is for (the recipe's or data type's)")


def _add_devices(devices: argparse._ArgumentGroup) -> None:
    add_engine(devices)
    devices.add_argument("--gpus", type=integers, help="GPUs: 0,1,2,3, or none (GPU 0 if it can serve, else the CPU)")
    devices.add_argument("--cpus", type=integer(high=64), help="devices to make of the CPU, which share its cores")
    devices.add_argument("--kv-store", choices=STORES, default="device", help="sums gradients over devices and workers")
    devices.add_argument("--dtype", choices=DTYPES, default="float32", help="of convolutions and the classifier")
    devices.add_argument(
        "--memonger",
        action=SWITCH,
        default=False,
        help="the least memory for a third more time: compute activations again instead of keeping them",
    )
    devices.add_argument("--memonger-budget", type=integer(), help="the least time for this many MB of activations")
    devices.add_argument(
        "--deterministic",
        action=SWITCH,
        default=False,
        help="the same to the bit each time: on a GPU, slower; on a CPU, threads for all cores, busy or not",
    )
    devices.add_argument(
        "--compile",
        choices=COMPILATIONS,
        default=COMPILATIONS[0],
        help="compile the net, on PyTorch; auto: on a GPU, for runs longer than about a minute; max-autotune: the "
        "fastest kernels, which takes minutes to compile",
    )


def add_engine(group: argparse._ActionsContainer) -> None:
    """Add the flag that says who computes."""
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="who computes; auto: MXNet, or PyTorch on GPUs that MXNet cannot use and where MXNet is not installed",
    )


def _add_run(run: argparse._ArgumentGroup) -> None:
    run.add_argument("--model-prefix", help="checkpoints are PREFIX-0001.params ... (model/resnet-DATA_TYPE-DEPTH)")
    run.add_argument("--resume", action="store_true", help="go on where the run with this prefix stopped")
    run.add_argument(
        "--max-minutes",
        type=positive,
        help="stop with a checkpoint when so many have passed; the same command goes on from there",
    )
    run.add_argument("--retrain", action="store_true", help="start from --model-load-epoch or --load-params")
    run.add_argument(
        "--eval-only", action="store_true", help="measure the latest checkpoint, or that of --model-load-epoch"
    )
    run.add_argument("--model-load-epoch", type=integer(0), help="epochs done before, with --retrain or --eval-only")
    run.add_argument("--load-params", type=Path, help="with --retrain, start from the parameters in this file")
    run.add_argument("--reset-optimizer", action="store_true", help="with --retrain, forget the momentum")
    run.add_argument("--keep", type=integer(), help="checkpoints to keep, the last ones and the best (all)")
    run.add_argument("--save-batches", type=integer(), help="also save every so many batches (after each epoch)")
    run.add_argument("--log-dir", type=Path, default=Path("log"), help="the log is LOG_DIR/NAME_OF_PREFIX/train.log")
    run.add_argument("--tensorboard", action=SWITCH, default=False, help="also write TensorBoard's event files there")
    run.add_argument("--frequent", type=integer(), help="batches between two lines of the log (50; digits: 10)")
