"""Networks as Gluon blocks, built from their plan in architecture.py."""

from __future__ import annotations

from mxnet.gluon import HybridBlock, nn

from mxnet_resnet.architecture import Architecture
from mxnet_resnet.blocks import BatchNorm, PreActBasic, PreActBottleneck, convolution


class ResNetV2(HybridBlock):
    """A pre-activation ResNet: images (N, 3, H, W), RGB, 0..255, to class scores (N, classes) before the softmax.

    The first layer, ``bn_data``, normalises each channel over the batch (and by its running statistics in prediction),
    so that images need no mean subtraction. The first unit of every stage projects its shortcut.
    """

    def __init__(self, architecture: Architecture, classes: int, bn_momentum: float = 0.9):
        super().__init__(prefix="")
        filters = architecture.filters
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(BatchNorm(3, bn_momentum, scale=False, prefix="bn_data_"))
            self.features.add(*_stem(architecture.stem, filters[0], bn_momentum))
            for stage, units in enumerate(architecture.units, start=1):
                self.features.add(_stage(stage, units, filters[stage - 1], filters[stage], architecture, bn_momentum))
            self.features.add(
                BatchNorm(filters[-1], bn_momentum, prefix="bn1_"),
                nn.Activation("relu", prefix="relu1_"),
                nn.GlobalAvgPool2D(prefix="pool1_"),
            )
            self.fc1 = nn.Dense(classes, in_units=filters[-1], prefix="fc1_")

    def hybrid_forward(self, F, x):
        # Named, because fine-tuning scripts cut published graphs at `flatten0_output`.
        return self.fc1(F.Flatten(self.features(x), name="flatten0"))


def _stem(kind: str, channels: int, bn_momentum: float) -> list[HybridBlock]:
    if kind == "cifar":
        return [convolution(channels, 3, 1, 3, prefix="conv0_")]
    return [
        convolution(channels, 7, 2, 3, prefix="conv0_"),
        BatchNorm(channels, bn_momentum, prefix="bn0_"),
        nn.Activation("relu", prefix="relu0_"),
        nn.MaxPool2D(3, 2, padding=1, prefix="pooling0_"),
    ]


def _stage(
    number: int, units: int, in_channels: int, channels: int, architecture: Architecture, bn_momentum: float
) -> nn.HybridSequential:
    """Units at one resolution; from the second stage on, the first unit halves it."""
    unit = PreActBottleneck if architecture.bottleneck else PreActBasic
    stage = nn.HybridSequential(prefix="")
    with stage.name_scope():
        for index in range(1, units + 1):
            first = index == 1
            stage.add(
                unit(
                    in_channels if first else channels,
                    channels,
                    stride=2 if first and number > 1 else 1,
                    project=first,
                    bn_momentum=bn_momentum,
                    prefix=f"stage{number}_unit{index}_",
                )
            )
    return stage
