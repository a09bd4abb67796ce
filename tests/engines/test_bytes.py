"""Batches of bytes: engines cast them, and train on them to the bit as on the same values in float32."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.plans import architecture

SIZE, SHAPE = 6, (3, 16, 16)
PLAN = replace(architecture.symbolic_v2(20, "cifar"), dimensions=((1, 4), (1, 4), (1, 6), (1, 8)))
RANDOM = np.random.default_rng(0)
BYTES = [RANDOM.integers(0, 256, (SIZE, *SHAPE), np.uint8) for _ in range(4)]
LABELS = [RANDOM.integers(0, 10, SIZE).astype(np.float32) for _ in BYTES]


def train(engine, cpus, dtypes):
    """What is left of steps on batches of these types, their figures, and those of a validation between."""
    devices = engine.choose_devices([], cpus)
    spec = TrainingSpec(10, SHAPE, SIZE, lambda step: 0.01, compilation="no")
    with engine.join("device", devices) as group:
        model = engine.model(PLAN, spec, devices)
        model.prepare()
        session, figures = model.start(group, None, 0), []
        for number, dtype in enumerate(dtypes):
            batch = Batch(BYTES[number].astype(dtype), LABELS[number].copy(), SIZE)
            figures.append(session.step(batch, number).result().loss)
            if number == 1:
                session.snapshot()
                filled = Batch(BYTES[3].astype(dtype), LABELS[3].copy(), SIZE - 1)
                figures.append(session.validate(filled).result().loss)
        return session.snapshot(), figures


@pytest.mark.parametrize("module, name, cpus", [("mxnet", "MXNet", 1), ("mxnet", "MXNet", 2), ("torch", "Torch", 1)])
def test_bytes_train_as_their_values_do(module, name, cpus):
    pytest.importorskip(module)
    engine = getattr(import_module(f"mxnet_resnet.engines.{module}.engine"), f"{name}Engine")()
    engine.load()
    expected, told = train(engine, cpus, [np.float32] * 3)
    for dtypes in ([np.uint8] * 3, [np.uint8, np.float32, np.uint8]):  # the latter as where some images are mixed
        found, figures = train(engine, cpus, dtypes)
        assert figures == told
        for kind in ("params", "statistics", "momentum"):
            for key, array in getattr(expected, kind).items():
                np.testing.assert_array_equal(getattr(found, kind)[key], array, err_msg=key)


def test_mxnet_casts_on_the_gpu(monkeypatch):
    """MXNet casts as it copies on one device, and not from one to another: bytes are what goes there."""
    pytest.importorskip("mxnet")
    import mxnet as mx

    from mxnet_resnet.engines.mxnet.batches import as_data_batch

    brought = []

    def bring(array, context):
        brought.append((array.dtype, context))
        return array

    monkeypatch.setattr(mx.nd.NDArray, "as_in_context", bring)
    gpu, batch = SimpleNamespace(device_type="gpu"), Batch(BYTES[0].copy(), LABELS[0].copy(), SIZE)
    (images,) = as_data_batch(batch, gpu).data
    assert brought == [(np.uint8, gpu)] and images.dtype == np.float32
    np.testing.assert_array_equal(images.asnumpy(), BYTES[0])
    assert as_data_batch(batch, mx.cpu()).data[0].dtype == np.uint8 and len(brought) == 1
