"""Whether two checkpoints are the same net: their scores on random images and on photographs."""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
import numpy as np

from mxnet_resnet.data.transform import ImageShape, as_input, read_image
from mxnet_resnet.engines.mxnet import models
from mxnet_resnet.use.weights import Weights, input_normalisation, takes_bytes

# Of ImageNet in 0..255, as torchvision's and GluonCV's nets take them.
IMAGENET_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
IMAGENET_STD = np.array([58.395, 57.12, 57.375], np.float32)


def image_shape(weights: Weights) -> ImageShape:
    """The (C, H, W) that a net was made for."""
    return (3, 32, 32) if weights.plan.small_images else (3, 224, 224)


def images(weights: Weights, paths: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Random images and photographs (N, 3, H, W) as the net takes them; without paths, scikit-learn's two."""
    return images_of(image_shape(weights), takes_bytes(weights), paths)


def images_of(shape: ImageShape, as_bytes: bool, paths: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """As ``images``, of ``shape`` (C, H, W), in 0..255 or as ImageNet's mean and deviation leave them."""
    random = np.random.RandomState(0).normal(size=(4, *shape)).astype(np.float32)
    photographs = as_input(_photographs(paths), shape)
    if as_bytes:
        return {"random": (random * 64 + 128).clip(0, 255), "real": photographs}
    return {"random": random, "real": _normalise(photographs, IMAGENET_MEAN, IMAGENET_STD)}


def _photographs(paths: Sequence[str]) -> list[np.ndarray]:
    if paths:
        return [read_image(path) for path in paths]
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def _normalise(batch: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return (batch - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)


def difference(source: Weights, target: Weights, batch: np.ndarray) -> tuple[float, float, str]:
    """The largest difference of two nets' scores, absolute and by the largest score, and who computed them.

    Each is computed by its own framework where it has one, else by our net. A ``target`` without a BatchNorm on
    the images gets them as that of ``source`` leaves them.
    """
    given = batch
    if source.plan.data_norm and not target.plan.data_norm:
        given = _normalise(batch, *input_normalisation(source))
    expected, found = _scores(source, batch), _scores(target, given)
    absolute = float(np.abs(expected - found).max())
    whose = ", ".join(f"{name} by {net.computed_by}" for name, net in (("source", source), ("target", target)))
    largest = float(np.abs(expected).max())
    return absolute, absolute / largest if absolute else 0.0, whose


def _scores(weights: Weights, batch: np.ndarray) -> np.ndarray:
    if weights.scores:
        return weights.scores(batch)
    return weights.net()(mx.nd.array(batch)).asnumpy()


def describe(weights: Weights) -> list[str]:
    """What a checkpoint is, in sentences."""
    plan = weights.plan
    net = weights.net()
    units = ", ".join(str(units) for units, _ in plan.dimensions[1:])
    planes = ", ".join(str(planes) for _, planes in plan.dimensions[1:])
    kind = "pre-activation" if plan.preact else "post-activation"
    block = "bottleneck" if plan.bottleneck else "basic"
    return [
        f"Found: {weights.origin}",
        f"  {kind} ResNet of {units} {block} units, {planes} planes, width {plan.width}, {plan.shortcut} shortcuts, "
        f"for {'small' if plan.small_images else 'large'} images, {weights.classes or 'no'} classes",
        f"  {models.count_layers(net)} layers, {models.count_parameters(net):,} parameters",
    ]
