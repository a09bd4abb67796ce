"""The flags of train_resnet.py, and the defaults that follow from the data type."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mxnet_resnet import architecture
from mxnet_resnet.arguments import Parser, integers, number, shape, whole
from mxnet_resnet.datasets import BACKENDS, DATA_TYPES, DataType
from mxnet_resnet.errors import UserError

CUSTOM = "custom"
SMALLEST_SIDE_WITH_IMAGENET_STEM = 65


def parser() -> Parser:
    """The command line of train_resnet.py. A default of None follows from the data type."""
    result = Parser("Train a ResNet on RecordIO images.", prog="train_resnet.py")
    data = result.add_argument_group("data")
    data.add_argument("--data-type", choices=[*DATA_TYPES, CUSTOM], default="imagenet", help="the data set")
    data.add_argument("--data-dir", type=Path, help="folder of its records (data/DATA_TYPE)")
    data.add_argument("--data-train", type=Path, help="training records, instead of those in --data-dir")
    data.add_argument("--data-val", type=Path, help="validation records, instead of those in --data-dir")
    data.add_argument("--image-shape", type=shape, help="channels, height and width of the net's input: 3,224,224")
    data.add_argument("--num-classes", type=whole(), help="number of classes")
    data.add_argument("--num-examples", type=whole(), help="training images, for the learning rate steps (counted)")
    data.add_argument(
        "--aug-level",
        type=int,
        choices=[1, 2, 3],
        help="1: random crop and mirror; 2: scale, aspect and colour too; 3: rotation and shear too",
    )

    data.add_argument(
        "--aug-off-epoch", type=whole(0), help="epoch from which on the augmentation is of level 1, e.g. 95 of 120"
    )
    data.add_argument("--data-backend", choices=BACKENDS, default=BACKENDS[0], help="who decodes")
    data.add_argument("--data-nthreads", type=whole(high=1024), help="threads that decode (one a core)")

    net = result.add_argument_group("network")
    net.add_argument("--depth", type=int, help="layers of a ResNet-v2: 50 for imagenet, 164 for cifar10")
    net.add_argument("--network", help="another net instead, by its name in docs/models.md: preact_resnet20")
    net.add_argument("--width", type=whole(), help="factor on the channels of the 3x3 convolutions")
    net.add_argument(
        "--drop-rate", type=number(0, 1, high_included=False), help="dropout in basic units, from 0 to below 1"
    )
    net.add_argument("--shortcut", choices=architecture.SHORTCUT_NAMES, help="how units with a new shape are passed by")
    net.add_argument("--bn-mom", type=number(0, 1), default=0.9, help="momentum of the BatchNorm statistics")
    net.add_argument("--workspace", type=whole(), default=512, help="MB that one convolution may use on a GPU")
    net.add_argument("--memonger", action="store_true", help="compute activations again instead of keeping them")

    training = result.add_argument_group("training")
    training.add_argument(
        "--lr", type=number(0), help="learning rate at the start, or from --model-load-epoch on (0.1)"
    )
    training.add_argument("--lr-steps", type=integers, help="epochs after which the learning rate is divided by 10")
    training.add_argument("--mom", type=number(0, 1, high_included=False), default=0.9, help="Nesterov momentum")
    training.add_argument("--wd", type=number(0), default=0.0001, help="weight decay of weights and gammas")
    training.add_argument("--batch-size", type=whole(), help="images a step, over all devices of this machine")
    training.add_argument("--epochs", type=whole(), help="epochs in all, those before --model-load-epoch included")
    training.add_argument(
        "--seed", type=whole(0), default=0, help="of the initial weights, the order and the augmentation"
    )

    run = result.add_argument_group("run")
    run.add_argument("--gpus", type=integers, help="GPUs: 0,1,2,3, or none (GPU 0 if it can serve, else the CPU)")
    run.add_argument("--kv-store", choices=["local", "device", "nccl"], default="device", help="sums gradients")
    run.add_argument("--model-prefix", help="checkpoints are PREFIX-0001.params ... (model/resnet-DATA_TYPE-DEPTH)")
    run.add_argument("--retrain", action="store_true", help="start from the parameters of --model-load-epoch")
    run.add_argument("--model-load-epoch", type=whole(0), help="epochs done before, with --retrain")
    run.add_argument("--log-dir", type=Path, default=Path("log"), help="the log is LOG_DIR/NAME_OF_PREFIX/train.log")
    run.add_argument("--frequent", type=whole(), help="batches between two lines of the log (50; digits: 10)")
    return result


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, completed from the data type; a flag that was given always wins. Raises UserError."""
    options = parser().parse_args(arguments)
    data = _data_type(options)
    defaults = {
        "image_shape": data.image_shape,
        "num_classes": data.num_classes,
        "batch_size": data.batch_size,
        "epochs": data.epochs,
        "lr_steps": list(data.lr_steps),
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
    net, data_type = options.network, options.data_type
    name = f"{net}-{data_type}" if net else f"resnet-{data_type}-{options.depth}"
    name += "".join(f"-{key}-{value}" for key, value in _net_options(options).items() if value is not None)
    options.model_prefix = options.model_prefix or f"model/{name}"
    _check(options)
    return options


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
    if options.network is not None and options.depth is not None:
        raise UserError("--network and --depth both choose the net: give one of them")
    if options.retrain != (options.model_load_epoch is not None):
        raise UserError("--retrain and --model-load-epoch go together: the epoch says which parameters to start from")
    if options.retrain and options.model_load_epoch >= options.epochs:
        raise UserError(
            f"--model-load-epoch {options.model_load_epoch} leaves nothing to train of --epochs {options.epochs}"
        )
    if sorted(set(options.lr_steps)) != options.lr_steps or min(options.lr_steps, default=1) < 1:
        raise UserError(f"--lr-steps {','.join(map(str, options.lr_steps))} are not epochs in rising order")
