"""Sessions of both engines in float64, where what they compute differs by mathematics and not by rounding."""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
import numpy as np

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.base import Session, TrainingSpec
from mxnet_resnet.engines.mxnet.engine import MXNetEngine
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.mxnet.session import ModuleSession, input_shapes
from mxnet_resnet.engines.torch.engine import TorchEngine
from mxnet_resnet.engines.torch.group import ProcessGroup
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Arrays, Snapshot


def start_mxnet(plan: Architecture, spec: TrainingSpec, snapshot: Snapshot, step: int = 0) -> ModuleSession:
    """A session on the graph as it is saved: oneDNN, for which the executed one is made, has no float64."""
    engine = MXNetEngine()
    graph = engine.model(plan, spec, engine.choose_devices([], None)).graph
    symbol = mx.sym.load_json(graph.replace('"__dtype__": "0"', '"__dtype__": "1"'))
    shapes = input_shapes(symbol, spec, spec.batch_size)
    images, labels = ([mx.io.DataDesc(name, shape, np.float64)] for name, shape in shapes.items())
    module = mx.mod.Module(symbol, label_names=[labels[0].name])
    module.bind(images, labels)
    module.init_params(None, to_mxnet(snapshot.params), to_mxnet(snapshot.statistics))
    return ModuleSession(module, spec, KVStoreGroup(mx.kvstore.create("local")), snapshot, step)


def start_torch(plan: Architecture, spec: TrainingSpec, snapshot: Snapshot, step: int = 0) -> Session:
    """A session whose net, momentum and scores are float64."""
    engine = TorchEngine()
    model = engine.model(plan, spec, engine.choose_devices([], None))
    model.prepare()
    model.net.double()
    return model.start(ProcessGroup(), snapshot, step)


def train(session: Session, batches: Sequence[Batch], dtype: type = np.float64, first: int = 0) -> Snapshot:
    """What is left of training on batches, the step of the ``first`` of them and the next ones."""
    for number, batch in enumerate(batches, first):
        session.step(Batch(batch.images.astype(dtype), batch.labels.copy(), batch.count), number).result()
    return session.snapshot()


def differences(found: Arrays, expected: Arrays) -> dict[str, float]:
    """The norm of the difference of each array by the norm of the array, or by a millionth of the largest norm.

    That is for gradients that are 0 but for rounding.
    """
    assert found.keys() == expected.keys()
    norms = {name: float(np.linalg.norm(array)) for name, array in expected.items()}
    least = 1e-6 * max(norms.values(), default=0)
    apart = {name: float(np.linalg.norm(found[name] - array)) for name, array in expected.items()}
    return {name: distance / max(norms[name], least) for name, distance in apart.items()}
