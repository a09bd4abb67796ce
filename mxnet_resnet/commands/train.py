"""Train a ResNet-v2 on RecordIO images."""

from __future__ import annotations

from mxnet_resnet import engines
from mxnet_resnet.engines.base import Engine
from mxnet_resnet.settings.run import parse
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.setup import train
from mxnet_resnet.use import chosen, evaluate, reading
from mxnet_resnet.use.classifier import Classifier
from mxnet_resnet.use.evaluate import Result


def main() -> None:
    settings = parse()
    engine = engines.choose()
    if settings.eval_only:
        print(evaluate.describe(measure(settings, engine)))
        return
    train(settings, engine)


def measure(settings: RunSettings, engine: Engine) -> Result:
    """The errors of a checkpoint of the run on its validation records, on the first device."""
    engine.load()
    prefix = settings.start.prefix
    epoch = evaluate.choose_epoch(prefix, settings.start.epoch)
    net = reading.read_checkpoint(prefix, epoch, reading.Given(settings.data.image_shape))
    chosen.tell_notes(net)
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    predictor = engine.predictor(net, devices, settings.batch_size, settings.devices.dtype)
    return evaluate.evaluate_records(Classifier(predictor), settings.data.val, threads=settings.data.threads)
