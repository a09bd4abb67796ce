"""What MXNet 1.9.1 itself gives: the Gluon zoo's ResNet-v2, and a Symbol trained as MXNet's examples do."""

from __future__ import annotations

from benchmarks.ours import a_batch, describe_run, model_of
from benchmarks.prepared import mx
from benchmarks.way import Step
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.session import bind

NAG = {"learning_rate": 0.01, "momentum": 0.9, "wd": 1e-4}


def symbol_training(depth: int, images: int, kind: str) -> Step:
    """The loop of mx.model.FeedForward and Module.fit, in which a metric reads each batch; the graph as published."""
    settings = describe_run(depth, images)
    model = model_of(settings)
    module, batch = bind(model.symbol, model.spec, [mx.cpu()]), as_data_batch(a_batch(settings))
    module.init_optimizer("device", "nag", NAG)
    metric = mx.metric.Accuracy()

    def step() -> None:
        module.forward_backward(batch)
        module.update()
        module.update_metric(metric, batch.label)

    return step


def zoo_training(depth: int, images: int, kind: str) -> Step:
    """A step of gluon.Trainer on one batch."""
    net, batch = _zoo(depth), as_data_batch(a_batch(describe_run(depth, images)))
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    optimizer = mx.gluon.Trainer(net.collect_params(), "nag", NAG)

    def step() -> None:
        with mx.autograd.record():
            losses = loss(net(batch.data[0]), batch.label[0])
        losses.backward()
        optimizer.step(images)
        mx.nd.waitall()

    return step


def zoo_prediction(depth: int, images: int, kind: str) -> Step:
    """Probabilities of one batch."""
    net, batch = _zoo(depth), as_data_batch(a_batch(describe_run(depth, images)))
    return lambda: net(batch.data[0]).softmax().asnumpy()


def _zoo(depth: int) -> mx.gluon.HybridBlock:
    net = mx.gluon.model_zoo.vision.get_resnet(2, depth)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    net.hybridize(static_alloc=True, static_shape=True)
    return net
