"""Residual units on PyTorch by name: variants of them, dropout, how they begin, and what their BatchNorms keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import mxnet_resnet.torch as library
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import blocks, nets, registry
from mxnet_resnet.engines.torch.layers import BatchNorm
from mxnet_resnet.plans import architecture

DIMENSIONS = ((1, 8), (2, 8), (1, 16))
NETS = {  # a net of each block
    "basic": "wide_resnet16_8",
    "bottleneck": "resnet164",
    "preact_basic": "preact_wide_resnet16_8",
    "preact_bottleneck": "preact_resnet164",
}


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.bn = nn.BatchNorm2d(channels // 4)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        hidden = torch.relu(self.bn(self.squeeze(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(self.excite(hidden))


@pytest.fixture
def squeezed(monkeypatch):
    """Register the squeeze-and-excitation variant of a block as "squeezed", and name a net of it "se_net"."""
    monkeypatch.setattr(registry, "BLOCKS", {**registry.BLOCKS})

    def add(block, **plan):
        @registry.register("squeezed")
        class Squeezed(registry.find_block(block)):
            def make_refinement(self, channels):
                return SqueezeExcite(channels)

        named = replace(architecture.find(NETS[block]), block="squeezed", dimensions=DIMENSIONS, width=1, **plan)
        monkeypatch.setitem(architecture.MODELS, "se_net", named)
        return Squeezed

    return add


@pytest.mark.parametrize("block", NETS)
def test_a_net_of_a_variant_is_found_by_its_name_and_trains(squeezed, block):
    kind = squeezed(block)
    torch.manual_seed(0)
    net = library.build("se_net", classes=3)
    assert all(isinstance(unit, kind) for unit in net.units) and len(net.units) == 3
    before = {name: tensor.detach().clone() for name, tensor in nets.name_tensors(net).items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    nn.functional.cross_entropy(net(torch.rand(4, 3, 16, 16)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    after = nets.name_tensors(net)
    squeezes = [name for name in before if name.endswith("_refinement_squeeze_weight")]
    assert squeezes == [f"stage{unit}_refinement_squeeze_weight" for unit in ("1_unit1", "1_unit2", "2_unit1")]
    assert {f"stage1_unit1_refinement_bn_{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_var")} <= {
        *before
    }
    still = [name for name in before if torch.equal(before[name], after[name]) and "_squeeze_bias" not in name]
    assert not still  # a bias before a BatchNorm has no gradient

    nets.fill(
        other := library.build("se_net", classes=3), {key: tensor.detach().numpy() for key, tensor in after.items()}
    )
    data = torch.rand(2, 3, 16, 16)
    assert torch.equal(other.eval()(data), net.eval()(data))


@pytest.mark.parametrize("block", NETS)
def test_a_variant_begins_as_its_shortcut(squeezed, block):
    squeezed(block)
    unit = library.build("se_net", zero_init_residual=True).units[1]
    data = torch.randn(2, unit.out_planes, 6, 6)
    assert torch.equal(unit(data), data if "preact" in block else data.relu())
    assert not torch.equal(library.build("se_net").units[1](data), unit(data))


@pytest.mark.parametrize("block", ["basic", "preact_basic"])
def test_dropout_is_before_the_last_convolution_and_in_training_alone(squeezed, block):
    squeezed(block)
    net = library.build("se_net", classes=3)
    seen = []
    for unit in net.units:
        assert unit.dropout.p == 0.3
        unit.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(float((inputs[0] == 0).float().mean())))
    data = torch.rand(8, 3, 16, 16)
    assert not torch.equal(net(data), net(data))
    assert min(seen) > 0.5  # a half is zero by the ReLU, and 0.3 of the rest
    net.eval()
    assert torch.equal(net(data), net(data))
    plain = library.build("se_net", classes=3, drop_rate=0)
    assert torch.equal(plain(data), plain(data))


def test_a_plan_says_which_convolution_of_a_bottleneck_has_its_stride_and_its_biases(squeezed):
    squeezed("bottleneck", stride_first=True, bias=True)
    unit = library.build("se_net").units[2]
    assert [layer.stride for layer in (unit.conv1, unit.conv2, unit.conv3)] == [(2, 2), (1, 1), (1, 1)]
    assert [layer.bias is not None for layer in (unit.conv1, unit.conv2, unit.conv3)] == [True, False, True]


def test_a_net_takes_a_block_by_its_name_and_a_name_is_of_one_block(monkeypatch):
    net = library.PreActResNet(DIMENSIONS, "preact_bottleneck")
    assert type(net.units[0]) is blocks.PreActBottleneck and net.out_planes == 64
    monkeypatch.setattr(registry, "BLOCKS", {**registry.BLOCKS})
    with pytest.raises(UserError, match=r"the block 'basic' is mxnet_resnet\..*\.BasicBlock: choose another name"):
        registry.register("basic")(SqueezeExcite)
    monkeypatch.setitem(architecture.MODELS, "se_net", replace(architecture.find("resnet20"), block="squeezd"))
    with pytest.raises(UserError, match="there is no block 'squeezd': the blocks are basic, bottleneck, preact_basic"):
        library.build("se_net")


def test_norms_that_give_their_input_back_leave_it_as_it_is():
    """The shortcut of a pre-activation unit takes the input itself, which no ReLU before it may change in place."""
    unit = blocks.PreActBlock(8, 8, norm=lambda channels: nn.Identity())
    data = torch.randn(2, 8, 6, 6)
    before = data.clone()
    unit(data)
    assert torch.equal(data, before)


def test_a_batchnorm_keeps_the_biased_variance():
    norm = BatchNorm(1, momentum=0.75)
    values = torch.tensor([1.0, 2, 4, 7]).reshape(4, 1, 1, 1)
    norm(values)
    array = values.numpy()
    np.testing.assert_allclose(norm.running_mean.numpy(), [0.25 * array.mean()], rtol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), [0.75 + 0.25 * array.var()], rtol=1e-6)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batchnorm_that_does_not_track_computes_the_same_and_keeps_its_statistics(dtype):
    norm = BatchNorm(3)
    data = torch.randn(4, 3, 5, 5).to(dtype).requires_grad_()
    first = norm(data)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    norm.tracks = False
    again = norm(data)
    assert first.dtype == dtype and torch.equal(first, again)
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())
    gradients = [torch.autograd.grad(result.sum(dim=0).square().sum(), data)[0] for result in (first, again)]
    assert torch.equal(*gradients) and gradients[0].any()  # nothing of the first pass was changed by the second


@pytest.mark.parametrize("training", [False, True])
def test_a_batchnorm_without_scale_takes_gamma_as_one(training):
    norm, expected = BatchNorm(3, scale=False).train(training), BatchNorm(3).train(training)
    nn.init.constant_(norm.weight, 7)
    data = torch.randn(4, 3, 5, 5)
    assert torch.equal(norm(data), expected(data))
    assert library.count_parameters(norm) == 3


def test_statistics_can_be_those_of_all_batches():
    """As torch.optim.swa_utils.update_bn gathers them."""
    norm = BatchNorm(4, momentum=0.9)
    norm.momentum = None
    batches = torch.randn(3, 8, 4, 5, 5) + 2
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, batches.mean(dim=(0, 1, 3, 4)))
    torch.testing.assert_close(norm.running_var, batches.var(dim=(1, 3, 4), unbiased=False).mean(dim=0))
    assert norm.num_batches_tracked == 3


def test_no_images_and_images_without_a_batch_are_told():
    norm = BatchNorm(4)
    for images, told in ((torch.zeros(0, 4, 5, 5), "more images"), (torch.zeros(1, 4, 1, 1), "more images")):
        with pytest.raises(UserError, match=told):
            norm(images)
    with pytest.raises(ValueError, match="expected 4D input"):
        norm(torch.zeros(4, 5, 5))
