"""What the flags of settings/netflags.py choose: a trained net, its classes, and the device that it is computed on."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.classnames import number_class, read_class_names
from mxnet_resnet.data.datasets import IMAGENET_CLASSES, IMAGENET_SYNSET
from mxnet_resnet.engines.base import Engine
from mxnet_resnet.engines.net import TrainedNet, require_classes
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.settings.netflags import NetChoice
from mxnet_resnet.use import reading
from mxnet_resnet.use.classifier import Classifier
from mxnet_resnet.use.gradcam import GradCam


def load_net(choice: NetChoice, engine: Engine) -> TrainedNet:
    """The net as the engine computes it; what is assumed of its images is told on standard error. Raises UserError."""
    net = load_net_silently(choice, engine)
    tell_notes(net)
    return net


def load_net_silently(choice: NetChoice, engine: Engine) -> TrainedNet:
    """As `load_net`, for what does not depend on the images."""
    return engine.adopt(_read_net(choice))


def _read_net(choice: NetChoice) -> TrainedNet:
    if not choice.params:
        if choice.network:
            raise UserError("--network goes with --params FILE; a checkpoint at --prefix has its graph beside it")
        given = reading.Given(choice.image_shape, choice.mean, choice.std, output=choice.output)
        net = reading.read_checkpoint(choice.prefix, choice.epoch, given)
        return net if choice.epoch is not None else note_latest(net, choice.prefix, "--epoch")
    if not Path(choice.params).is_file():
        raise UserError(f"there is no file of parameters {choice.params}")
    plan = architecture.find(choice.network) if choice.network else None
    given = reading.Given(choice.image_shape, choice.mean, choice.std, plan, choice.output)
    return reading.read_known(choice.params, given=given)


def note_latest(net: TrainedNet, prefix: str, flag: str) -> TrainedNet:
    """The net, with a note of which checkpoint was taken where ``flag`` named none."""
    note = f"taking {checkpoint.find_latest(prefix)}, the latest that is there: {flag} names another"
    return dataclasses.replace(net, notes=(note, *net.notes))


def tell_notes(net: TrainedNet) -> None:
    """Say on standard error what is assumed of a net."""
    for note in net.notes:
        print(note, file=sys.stderr)


def open_engine(name: str, gpu: int | None) -> Engine:
    """The engine of that name for a GPU, or for what there is, loaded; why it is not MXNet is told on standard error.

    Raises UserError as `engines.choose`.
    """
    engine = engines.choose(name, None if gpu is None else [gpu])
    engine.load(soon_done=True)
    tell_reason(engine)
    return engine


def tell_reason(engine: Engine) -> None:
    """Say on standard error why an engine was taken in place of MXNet."""
    if engine.reason:
        print(engine.reason, file=sys.stderr)


def open_classifier(
    engine: Engine, net: TrainedNet, gpu: int | None, batch_size: int, dtype: str = "float32"
) -> Classifier:
    """``net`` on a GPU, or on what there is. Raises UserError for a device that cannot serve, or not in that dtype."""
    devices = engine.choose_devices(None if gpu is None else [gpu], None)
    return Classifier(engine.predictor(net, devices, batch_size, dtype))


def open_gradcam(engine: Engine, net: TrainedNet, gpu: int | None) -> GradCam:
    """Heat maps of ``net`` on such a device. Raises UserError as open_classifier, and for a net that has none."""
    return GradCam(engine.gradients(net, engine.choose_devices(None if gpu is None else [gpu], None)))


def name_classes(net: TrainedNet, choice: NetChoice) -> list[str]:
    """The names of the classes. Raises UserError where there are not as many as classes."""
    classes = require_classes(net)
    synset = choice.synset or (IMAGENET_SYNSET if classes == IMAGENET_CLASSES else None)
    return read_class_names(synset, classes) if synset else list(map(number_class, range(classes)))
