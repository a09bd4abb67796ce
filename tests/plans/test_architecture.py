import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plans import architecture


def layers(plan: architecture.Architecture) -> int:
    """Weighted layers on the longest path: the stem, those of the units, and the classifier."""
    units = sum(count for count, _ in plan.dimensions[1:])
    return 2 + units * (3 if plan.bottleneck else 2)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200, 269])
def test_imagenet_depths(depth):
    assert layers(architecture.symbolic_v2(depth, "imagenet")) == depth


@pytest.mark.parametrize("depth", [8, 20, 56, 110, 158, 164, 173, 1001])
def test_cifar_depths(depth):
    plan = architecture.symbolic_v2(depth, "cifar")
    assert layers(plan) == depth
    assert plan.bottleneck == (depth >= 164)


@pytest.mark.parametrize("depth", [-4, 0, 2, 21, 160, 163, 170, 1202])
def test_cifar_depths_there_are_not(depth):
    with pytest.raises(UserError, match=r"6n\+2 below 164 .* 9n\+2 from 164"):
        architecture.symbolic_v2(depth, "cifar")


def test_imagenet_depths_there_are_not():
    with pytest.raises(UserError, match="18, 34, 50, 101, 152, 200, 269"):
        architecture.symbolic_v2(20, "imagenet")


@pytest.mark.parametrize("depth, told", [(18, True), (269, False)])
def test_a_depth_of_large_images_names_its_net_for_small_ones(depth, told):
    """Where there is one."""
    name = f"preact_resnet{depth}"
    assert (name in architecture.MODELS) == told
    with pytest.raises(UserError) as error:
        architecture.symbolic_v2(depth, "cifar")
    assert (f"--network {name} is ImageNet's with a 3x3 first convolution" in str(error.value)) == told
