"""PyTorch trains as MXNet does: the same parameters, running statistics and momentum after the same batches."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mxnet")
pytest.importorskip("torch")

import mxnet as mx
import torch

from mxnet_resnet.data import augment, recordio, targets
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.engines import initial
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.graphs import emission
from mxnet_resnet.engines.mxnet.engine import MXNetEngine
from mxnet_resnet.engines.torch.engine import TorchEngine
from mxnet_resnet.engines.torch.optimizer import MOMENTUM, Momentum
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.use import reading
from tests.helpers import REPOSITORY
from tests.helpers.doubles import differences, start_mxnet, start_torch, train

STEPS, BATCH, SHAPE = 20, 8, (3, 16, 16)
TRAINED = f"{REPOSITORY}/log/results/cifar10-fast-seed1/cifar10-fast-seed1"
V2 = replace(architecture.symbolic_v2(20, "cifar"), dimensions=((1, 4), (1, 4), (1, 6), (1, 8)))
POST = replace(architecture.find("resnet20"), dimensions=V2.dimensions)

# What float32 holds to the bit, since MXNet keeps settings so, whatever its arrays are.
RATE, KEPT, DECAY = 2**-6, 1 - 2**-3, 2**-7
SMOOTH = {"label_smoothing": 9 * 2**-6}


def fall(step: int) -> float:
    """A learning rate that changes within the steps."""
    return RATE if step < STEPS // 2 else RATE / 8


@pytest.fixture(scope="module")
def batches(digits) -> list[Batch]:
    path = digits / "digits_train.rec"
    records = TrainingRecords(path, recordio.scan(path), SHAPE, BATCH, augment.LEVELS[1], 4, False, 0)
    return list(islice(records.epoch(0), STEPS))


def specify(**more) -> TrainingSpec:
    values = {"classes": 10, "image_shape": SHAPE, "batch_size": BATCH, "schedule": fall}
    kept = {"momentum": KEPT, "bn_momentum": KEPT, "weight_decay": DECAY}
    return TrainingSpec(**{**values, **kept, **more})


def draw(plan) -> Snapshot:
    """Arrays to begin with, of which none is 0 or 1 throughout, so that it shows what decays and what is fixed."""
    graph = emission.emit(plan, 10)
    params, statistics = initial.draw(graph, graph.noted_shapes, 0)
    random = np.random.default_rng(0)
    for name, array in params.items():
        if name.endswith(("_gamma", "_beta", "_bias")):
            array += random.uniform(-0.3, 0.3, array.shape).astype(np.float32)
    return Snapshot(params, statistics)


def assert_agree(found: Snapshot, expected: Snapshot, **tolerances: float) -> None:
    for kind, tolerance in tolerances.items():
        for name, difference in differences(getattr(found, kind), getattr(expected, kind)).items():
            assert difference < tolerance, f"{kind} {name}"


def assert_equal(found: Snapshot, expected: Snapshot) -> None:
    """Far above the rounding of float64, and far below what any other rule would make of it."""
    assert_agree(found, expected, params=1e-8, statistics=1e-8, momentum=1e-7)


VARIANTS = {
    "nag": (V2, SMOOTH),
    "sgd": (V2, {"optimizer": "sgd", **SMOOTH}),
    "without momentum": (V2, {"momentum": 0.0, **SMOOTH}),
    "weights decay": (V2, {"decayed": "weights"}),
    "gammas decay": (V2, {"decayed": "gammas"}),
    "all decay": (V2, {"decayed": "all"}),
    "nothing decays": (V2, {"weight_decay": 0.0}),
    "quick statistics": (V2, {"bn_momentum": 0.5}),
    "post-activation": (POST, SMOOTH),
    "post-activation, sgd, all decay": (POST, {"optimizer": "sgd", "decayed": "all"}),
    "memory mirroring": (V2, {"memonger": True, **SMOOTH}),
    "biases": (replace(architecture.find("gluon_resnet50_v1"), dimensions=V2.dimensions), {}),
    **{
        f"norm of images {norm}, {decayed} decay": (replace(plan, data_norm=norm), {"decayed": decayed})
        for norm in architecture.DATA_NORMS
        for plan, decayed in ((V2, "gammas"), (POST, "all"))
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_is_the_same(variant, batches):
    plan, more = VARIANTS[variant]
    spec, begin = specify(**more), draw(plan)
    expected = train(start_mxnet(plan, spec, begin), batches)
    found = train(start_torch(plan, spec, begin), batches)
    assert_equal(found, expected)
    assert bool(found.momentum) == bool(spec.momentum)


def test_training_towards_distributions_is_the_same(batches):
    """Those of mixup, which are smooth already, and sum up to 1 as exactly as float32 does."""
    spec, begin = specify(soft_labels=True, **SMOOTH), draw(V2)
    mixed = [targets.mixed(batch, 0.4, 10, spec.label_smoothing, (0, 0, 0)) for batch in batches]
    expected = train(start_mxnet(V2, spec, begin), mixed)
    found = train(start_torch(V2, spec, begin), mixed)
    assert_agree(found, expected, params=1e-6, statistics=1e-6, momentum=1e-5)


@pytest.mark.parametrize("first, second", [(start_mxnet, start_torch), (start_torch, start_mxnet)])
@pytest.mark.parametrize("optimizer", ["nag", "sgd"])
def test_training_moves_within_a_rate_and_at_its_change(batches, optimizer, first, second):
    spec, begin = specify(optimizer=optimizer), draw(V2)
    expected = train(first(V2, spec, begin), batches)
    for moved in (STEPS // 2 - 3, STEPS // 2):
        there = train(first(V2, spec, begin), batches[:moved])
        assert_equal(train(second(V2, spec, there, moved), batches[moved:], first=moved), expected)


def read_cifar(shared: Path, size: int) -> tuple:
    """The plan and the arrays of a net that was trained on CIFAR-10, and batches of its test images."""
    net = reading.read_known(TRAINED)
    raw = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)
    raw = raw[: STEPS * size].reshape(STEPS, size, 3073).astype(np.float32)
    images = [Batch(part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0].copy(), size) for part in raw]
    return net.plan, Snapshot(net.params, net.statistics), images


def specify_cifar(size: int) -> TrainingSpec:
    return TrainingSpec(10, (3, 32, 32), size, lambda step: 0.001 if step < STEPS // 2 else 0.0001, label_smoothing=0.1)


def test_training_on_photographs_is_the_same(shared):
    """As runs do it, in float32; and in float64.

    Gradients in float32 are not as exact as 1e-4 in either engine, nor is the momentum that they make: PyTorch with
    another convolution is as far from itself.
    """
    plan, begin, images = read_cifar(shared, 32)
    ends = []
    for engine in (MXNetEngine(), TorchEngine()):
        devices = engine.choose_devices([], None)
        with engine.join("local", devices) as group:
            session = engine.model(plan, specify_cifar(32), devices).start(group, begin, 0)
            ends.append(train(session, images, np.float32))
    assert_agree(*ends, params=1e-4, statistics=1e-4, momentum=0.05)
    plan, begin, images = read_cifar(shared, 4)
    expected = train(start_mxnet(plan, specify_cifar(4), begin), images)
    found = train(start_torch(plan, specify_cifar(4), begin), images)
    assert_agree(found, expected, params=1e-6, statistics=1e-6, momentum=1e-5)


@pytest.mark.parametrize("kind", ["nag", "sgd"])
def test_momentum_is_in_units_of_the_weights(kind):
    """With a gradient of 1, at these rates, as MXNet has it; PyTorch's own would be 1, 1.9, 2.71, 3.439."""
    for decay, expected in ((0.0, [-1, -1.9, -1.81, -1.729]), (0.25, None)):
        ours = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = Momentum([{"params": [ours], "weight_decay": decay}], 0.9, kind == "nag")
        theirs, state = mx.nd.ones(2, dtype="float64"), None
        mxnet = mx.optimizer.create(kind, momentum=0.9, wd=decay)
        updater = mx.optimizer.get_updater(mxnet)
        kept = []
        for rate in (1, 1, 0.1, 0.1):
            mxnet.lr, ours.grad = rate, torch.ones_like(ours)
            updater(0, mx.nd.ones(2, dtype="float64"), theirs)
            optimizer.set_rate(rate)
            optimizer.step()
            state = optimizer.state[ours][MOMENTUM].numpy()
            np.testing.assert_allclose(ours.detach().numpy(), theirs.asnumpy(), rtol=1e-6)
            np.testing.assert_allclose(state, updater.states[0].asnumpy(), rtol=1e-6)
            kept.append(state[0])
        assert expected is None or kept == pytest.approx(expected)
