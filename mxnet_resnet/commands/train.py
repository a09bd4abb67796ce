"""Train a ResNet-v2 on RecordIO images."""

from __future__ import annotations

import sys

from mxnet_resnet import engines
from mxnet_resnet.engines.base import Engine
from mxnet_resnet.runs import checkpoint, ledger
from mxnet_resnet.settings.run import parse
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.setup import train


def main() -> None:
    settings = parse()
    engine = engines.choose()
    if settings.eval_only:
        measure(settings, engine)
        return
    engine.prepare(settings.devices.store, settings.devices.cpus)
    train(settings, engine)


def measure(settings: RunSettings, engine: Engine) -> None:
    """Print the errors of a checkpoint on the validation records: of --model-load-epoch, or else of the latest one."""
    from mxnet_resnet.use import evaluate, reading

    prefix, epoch = settings.start.prefix, settings.start.epoch
    which = "latest" if epoch is None and ledger.latest(prefix) else epoch
    net = reading.read_checkpoint(
        prefix, checkpoint.last_epoch(prefix) if which is None else which, settings.data.image_shape
    )
    for note in net.notes:
        print(note, file=sys.stderr)
    devices = engine.choose_devices(settings.devices.gpus, settings.devices.cpus)
    predictor = engine.predictor(net, devices, settings.batch_size, settings.devices.dtype)
    result = evaluate.evaluate(predictor, settings.data.val, threads=settings.data.threads)
    print(evaluate.sentence(result))
