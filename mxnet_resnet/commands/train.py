"""Train a ResNet-v2 on RecordIO images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mxnet_resnet.engines.mxnet import cluster, compat
from mxnet_resnet.settings import options

if TYPE_CHECKING:
    from mxnet_resnet.use.evaluate import Result


def main() -> None:
    settings = options.parse()  # before MXNet is imported, so that a wrong flag is told at once
    if settings.eval_only:
        from mxnet_resnet.use import evaluate

        print(evaluate.describe(evaluate_checkpoint(settings)))
        return
    compat.share_cores(settings.cpus or 1)
    cluster.prepare(settings.kv_store)  # servers and schedulers serve in here

    from mxnet_resnet.train import trainer

    trainer.train(settings)


def evaluate_checkpoint(settings: argparse.Namespace) -> Result:
    """The errors of a checkpoint of the run on its validation records, on the first device."""
    from mxnet_resnet.engines.mxnet.predictor import open_predictor
    from mxnet_resnet.use import chosen, evaluate, reading
    from mxnet_resnet.use.classifier import Classifier

    epoch = evaluate.choose_epoch(settings.model_prefix, settings.model_load_epoch)
    net = reading.read_checkpoint(settings.model_prefix, epoch, reading.Given(settings.image_shape))
    chosen.tell_notes(net)
    predictor = open_predictor(net, settings.gpus, settings.cpus, settings.batch_size, settings.dtype)
    return evaluate.evaluate_records(Classifier(predictor), settings.data_val, threads=settings.data_nthreads)
