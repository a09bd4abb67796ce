"""What each named network is: pure data, no framework.

ResNet-v2 as in He et al., "Identity Mappings in Deep Residual Networks" (arXiv 1603.05027), with the depths and widths
that published MXNet checkpoints have.
"""

from __future__ import annotations

from dataclasses import dataclass

from mxnet_resnet.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """The plan of a ResNet.

    Attributes:
        units: residual units in each stage.
        filters: output channels of the stem, then of each stage.
        bottleneck: 1x1-3x3-1x1 units with a quarter of the channels in the middle, else two 3x3 convolutions.
        stem: ``"imagenet"`` (7x7 convolution and 3x3 max pooling, each of stride 2) or ``"cifar"`` (3x3 of stride 1).
    """

    units: tuple[int, ...]
    filters: tuple[int, ...]
    bottleneck: bool
    stem: str


STEMS = ("cifar", "imagenet")

# He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), table 1; 200 is arXiv 1603.05027,
# section 4.2; 269 is the plan that the MXNet ResNet-v2 repository added.
IMAGENET_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}

CIFAR_FIRST_BOTTLENECK_DEPTH = 164


def imagenet(depth: int) -> Architecture:
    """The ImageNet net of ``depth`` layers. Raises UserError, which lists the depths there are."""
    if depth not in IMAGENET_UNITS:
        valid = ", ".join(map(str, IMAGENET_UNITS))
        raise UserError(f"no ImageNet ResNet has depth {depth}: the depths are {valid}")
    if depth < 50:
        return Architecture(IMAGENET_UNITS[depth], (64, 64, 128, 256, 512), False, "imagenet")
    return Architecture(IMAGENET_UNITS[depth], (64, 256, 512, 1024, 2048), True, "imagenet")


def cifar(depth: int) -> Architecture:
    """The CIFAR net of ``depth`` layers: 6n+2 below 164 (basic units), 9n+2 from 164 on (bottlenecks).

    arXiv 1512.03385, section 4.2, and arXiv 1603.05027, section 4.1. Raises UserError for any other depth.
    """
    bottleneck = depth >= CIFAR_FIRST_BOTTLENECK_DEPTH
    units, rest = divmod(depth - 2, 9 if bottleneck else 6)
    if units < 1 or rest:
        raise UserError(
            f"no CIFAR ResNet has depth {depth}: the depths are 6n+2 below 164 (8, 14, 20, 26, 32, 38, 44, 50, ..., "
            "110, ..., 158) and 9n+2 from 164 on (164, 173, ..., 1001, ...)"
        )
    filters = (16, 64, 128, 256) if bottleneck else (16, 16, 32, 64)
    return Architecture((units,) * 3, filters, bottleneck, "cifar")


def resnet_v2(stem: str, depth: int) -> Architecture:
    """The ResNet-v2 of ``depth`` layers for ``stem``, one of STEMS. Raises UserError for a depth that has no plan."""
    return {"cifar": cifar, "imagenet": imagenet}[stem](depth)
