"""Train a ResNet-v2 on RecordIO images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mxnet_resnet import engines
from mxnet_resnet.data import imagebounds
from mxnet_resnet.settings.run import parse_runs

if TYPE_CHECKING:
    from mxnet_resnet.engines.base import Engine
    from mxnet_resnet.settings.sections import RunSettings
    from mxnet_resnet.use.evaluate import Result


def main() -> None:
    runs = parse_runs()  # before what trains is imported, so that a wrong flag is told at once
    settings = runs[0]
    imagebounds.allow(settings.data.max_pixels)
    engine = engines.choose(settings.devices.engine, settings.devices.gpus, settings.devices.cpus)
    if settings.eval_only:
        from mxnet_resnet.use import evaluate

        print(evaluate.describe(measure(settings, engine)))
        return
    if settings.series is not None:
        from mxnet_resnet.train.seeds import train_seeds

        train_seeds(runs, engine)
        return
    from mxnet_resnet.train.run import train

    train(settings, engine)


def measure(settings: RunSettings, engine: Engine) -> Result:
    """The errors of a checkpoint of the run on its validation records, on the first device."""
    from mxnet_resnet.use import chosen, evaluate, reading
    from mxnet_resnet.use.classifier import Classifier

    start = settings.start
    engine.load(soon_done=True)
    chosen.tell_reason(engine)
    net = engine.adopt(reading.read_checkpoint(start.prefix, start.epoch, reading.Given(settings.data.image_shape)))
    if start.epoch is None:
        net = chosen.note_latest(net, start.prefix, "--model-load-epoch")
    chosen.tell_notes(net)
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    predictor = engine.predictor(net, devices, settings.batch_size, settings.devices.dtype)
    return evaluate.evaluate_records(Classifier(predictor), settings.data.val, threads=settings.data.threads)
