"""Small graphs as others make them, with parameters, as checkpoints."""

import mxnet as mx
import numpy as np


def features(pool=True):
    """What a net with a BatchNorm on its convolution has seen: (N, 4, 1, 1), or the map (N, 4, H, W)."""
    convolution = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, no_bias=True, name="conv")
    seen = mx.sym.Activation(mx.sym.BatchNorm(convolution, name="norm", fix_gamma=False), act_type="relu")
    return mx.sym.Pooling(seen, global_pool=True, pool_type="avg", kernel=(1, 1), name="pool") if pool else seen


def dense(outputs=10, name="fc", of=None):
    """Scores, or whatever a last dense layer gives of features."""
    return mx.sym.FullyConnected(mx.sym.Flatten(features() if of is None else of), num_hidden=outputs, name=name)


def save(folder, symbol, image_shape):
    """Write ``net-symbol.json`` and ``net-0000.params`` with random arrays, which are returned as two dictionaries."""
    shapes, _, statistic_shapes = symbol.infer_shape(data=(1, *image_shape))
    random = np.random.RandomState(0)
    given = dict(zip(symbol.list_arguments(), shapes))
    params = {
        name: random.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in given.items()
        if name != "data" and not name.endswith("label")
    }
    statistics = {
        name: random.uniform(0.5, 1.5, shape).astype(np.float32)
        for name, shape in zip(symbol.list_auxiliary_states(), statistic_shapes)
    }
    prefixed = {**{f"arg:{n}": a for n, a in params.items()}, **{f"aux:{n}": a for n, a in statistics.items()}}
    mx.nd.save(str(folder / "net-0000.params"), {name: mx.nd.array(array) for name, array in prefixed.items()})
    symbol.save(str(folder / "net-symbol.json"))
    return params, statistics
