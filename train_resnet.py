#!/usr/bin/env python3
"""Train a ResNet-v2 on RecordIO images; `python train_resnet.py --help` lists the flags."""

from mxnet_resnet.base.errors import run
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


if __name__ == "__main__":
    run(main)
