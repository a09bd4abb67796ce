"""Arrays of nets on PyTorch by our names: put in, taken out, and recognised in their state_dicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import nets
from mxnet_resnet.plans import architecture, layouts

SHALLOW = ((1, 8), (2, 8), (1, 16))
NAMES = [
    "resnet20",
    "resnet50",
    "preact_resnet20",
    "preact_resnet18",
    "resnet20_v2",
    "resnet50_v2",
    "gluon_resnet50_v1",
    "gluon_resnet18_v2",
    "gluoncv_cifar_resnet20_v2",
    "gluoncv_cifar_wideresnet16_10",
]


def build(name, classes=5):
    return nets.build(replace(architecture.find(name), dimensions=SHALLOW, width=1), classes)


def arrays_of(net):
    return {name: tensor.detach().numpy() for name, tensor in nets.name_tensors(net).items()}


def test_tensors_are_those_of_the_net_and_have_the_names_of_the_published_nets():
    net = build("resnet50_v2")
    named = nets.name_tensors(net)
    assert {"bn_data_gamma", "conv0_weight", "bn0_moving_var", "bn1_beta", "fc1_weight", "fc1_bias"} <= {*named}
    assert {"stage1_unit1_sc_weight", "stage2_unit1_conv3_weight", "stage1_unit2_bn3_moving_mean"} <= {*named}
    assert named["bn_data_gamma"] is net.data_norm.weight and not named["bn_data_gamma"].requires_grad
    assert named["stage2_unit1_bn1_moving_mean"] is net.layers[1][0].bn1.running_mean
    assert len(named) == len(net.state_dict()) - sum(key.endswith("num_batches_tracked") for key in net.state_dict())


def test_a_net_is_filled_in_place_whatever_the_order():
    net = build("resnet20")
    tensors = nets.name_tensors(net)
    arrays = {name: np.full(tuple(tensor.shape), number) for number, (name, tensor) in enumerate(tensors.items())}
    for array in arrays.values():
        array.setflags(write=False)
    nets.fill(net, dict(reversed(arrays.items())))
    assert all((tensors[name].detach().numpy() == array).all() for name, array in arrays.items())
    assert tensors["conv0_weight"] is net.init_layer[0].weight and tensors["conv0_weight"].requires_grad


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fc1_weight": None}, "it has no fc1_weight"),
        ({"conv9_weight": np.zeros(1)}, "which has no conv9_weight"),
        ({"fc1_weight": np.zeros((5, 4))}, r"fc1_weight has shape \(5, 4\), expected \(5, 16\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(change, message):
    net = build("resnet20")
    before = arrays_of(net)["conv0_weight"].copy()
    arrays = {name: np.zeros_like(array) for name, array in arrays_of(net).items()}
    arrays = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    with pytest.raises(UserError, match=f"the checkpoint does not fit the net.*{message}"):
        nets.fill(net, arrays)
    assert np.array_equal(arrays_of(net)["conv0_weight"], before)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_is_recognised_and_its_net_computed(name):
    net = build(name)
    for tensor in nets.name_tensors(net).values():
        if tensor.dim() == 1:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    arrays = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    layout, names = layouts.recognise({key: array.shape for key, array in arrays.items()}, layouts.TORCH_LAYOUTS)
    ours = arrays_of(net)
    assert names.keys() == ours.keys()
    assert all(np.array_equal(arrays[theirs], ours[mine]) for mine, theirs in names.items())
    plan, classes = layouts.infer({key: array.shape for key, array in ours.items()}, layout)
    known = replace(architecture.find(name), dimensions=SHALLOW, width=1)
    told = ("dimensions", "bottleneck", "preact", "small_images", "stem_norm", "bias", "width")
    assert classes == 5 and all(getattr(plan, key) == getattr(known, key) for key in told)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(nets.compute_scores(arrays, layout, known, images), expected, rtol=1e-5, atol=1e-4)
