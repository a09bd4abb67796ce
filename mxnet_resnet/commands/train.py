"""Train a ResNet-v2 on RecordIO images."""

from __future__ import annotations

from mxnet_resnet.engines.mxnet import cluster, compat
from mxnet_resnet.settings import options


def main() -> None:
    settings = options.parse()  # before MXNet is imported, so that a wrong flag is told at once
    if settings.eval_only:
        from mxnet_resnet.use import evaluate

        print(evaluate.sentence(evaluate.of_options(settings)))
        return
    compat.share_cores(settings.cpus or 1)
    cluster.prepare(settings.kv_store)  # servers and schedulers serve in here

    from mxnet_resnet.train import trainer

    trainer.train(settings)
