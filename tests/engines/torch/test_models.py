"""The nets on PyTorch compute what the Gluon nets do: scores, running statistics and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("mxnet")
pytest.importorskip("torch")

from mxnet_resnet.plans import architecture
from mxnet_resnet.plans.architecture import DATA_NORMS
from tests.helpers.twins import Twins

SHALLOW = ((1, 8), (2, 8), (1, 16), (2, 24))
SHORTCUTS = sorted({*architecture.SHORTCUT_NAMES.values()})
# Beside the kinds of all nets, which are tested with few layers, some of their whole size; the rest is slow.
QUICK = (
    "resnet20",
    "resnet110",
    "preact_resnet56",
    "preact_resnet164",
    "preact_resnet18",
    "resnet20_v2",
    "resnet164_v2",
    "resnet34_v2",
    "gluon_resnet50_v1",
    "gluon_resnet18_v2",
    "gluoncv_cifar_resnet20_v1",
    "gluoncv_cifar_resnet20_v2",
)


def list_kinds():
    """The plans of all named nets that differ in more than their size, as shallow ones: by the first name of each."""
    kinds = {}
    for name, plan in architecture.MODELS.items():
        kind = replace(plan, dimensions=SHALLOW, width=min(plan.width, 2), drop_rate=0, source="")
        kinds.setdefault(kind, name)
    return {name: kind for kind, name in kinds.items()}


KINDS = list_kinds()
SMALL, PREACT = KINDS["resnet20"], KINDS["preact_resnet20"]
LARGE, V2 = KINDS["resnet18"], KINDS["resnet50_v2"]


def assert_same(plan, side, **options):
    """In float32 and in float64, which shows what rounding hides."""
    twins = Twins(plan, **options)
    assert twins.forward(side) < 1e-5
    assert twins.forward(side, training=True) < 1e-5
    scores, statistics, gradients = twins.step(side)
    assert scores < 1e-9 and statistics < 1e-6 and gradients < 1e-6  # MXNet has the momentum of statistics in float32


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_net_computes_as_in_gluon(name):
    assert_same(KINDS[name], 32)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in architecture.MODELS]
)
def test_every_named_net_computes_as_in_gluon(name):
    """In training in float64 alone: batches of few values enlarge what rounding does, in every unit of a deep net."""
    plan = replace(architecture.find(name), drop_rate=0)
    twins = Twins(plan)
    side = 32 if plan.small_images else 64
    assert twins.forward(side) < 1e-5
    scores, statistics, gradients = twins.step(side)
    assert scores < 1e-9 and statistics < 1e-6 and gradients < 1e-6


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("plan", [SMALL, PREACT], ids=["post", "preact"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_shortcuts_compute_as_in_gluon(shortcut, plan, bottleneck):
    assert_same(replace(plan, shortcut=shortcut, bottleneck=bottleneck), 16)


@pytest.mark.parametrize("data_norm", DATA_NORMS)
@pytest.mark.parametrize("plan", [SMALL, V2], ids=["post", "v2"])
def test_norms_of_the_images_compute_as_in_gluon(plan, data_norm):
    assert_same(replace(plan, data_norm=data_norm), 32)


@pytest.mark.parametrize(
    "plan, options",
    [
        (replace(SMALL, stem_norm=False), {}),
        (replace(LARGE, stem_norm=False), {}),
        (replace(LARGE, stem_relu=False), {}),
        (replace(PREACT, stem_norm=True), {}),
        (replace(SMALL, project_first=True, shortcut="identity"), {}),
        (replace(V2, bias=True, stride_first=True), {}),
        (replace(LARGE, bottleneck=True, bias=True), {}),
        (replace(V2, bottleneck=True, width=3), {}),
        (replace(SMALL, width=3), {}),
        (replace(SMALL, epsilon=0.5), {}),
        (replace(PREACT, dimensions=((1, 8), (3, 12))), {}),
        (SMALL, {"bn_momentum": 0.5}),
    ],
)
def test_any_plan_computes_as_in_gluon(plan, options):
    assert_same(plan, 32, **options)


def test_a_net_without_a_classifier_gives_its_features():
    twins = Twins(PREACT, None)
    assert twins.forward(16) < 1e-5
