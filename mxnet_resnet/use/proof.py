"""Whether two nets are the same: their scores on random images and on photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mxnet_resnet.data.transform import evaluation_transform, read_image
from mxnet_resnet.engines.graphs import trained
from mxnet_resnet.engines.net import TrainedNet, normalise, require_plan
from mxnet_resnet.use import graphs, reading

LARGEST_DIFFERENCE = 1e-4  # of probabilities, or of scores by the largest score


class NotProven(Exception):
    """An export that does not compute what its source does."""


def make_images(net: TrainedNet, paths: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Random images and photographs (N, 3, H, W) as the net takes them; without paths, scikit-learn's two."""
    random = np.random.RandomState(0).normal(size=(4, *net.image_shape)).astype(np.float32)
    photographs = np.stack([evaluation_transform(image, net.image_shape) for image in _photographs(paths)])
    shown = (random * 64 + 128).clip(0, 255) if net.takes_bytes else random
    return {"random": shown, "real": net.as_input(photographs)}


def _photographs(paths: Sequence[str]) -> list[np.ndarray]:
    if paths:
        return [read_image(path) for path in paths]
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def compare_scores(source: TrainedNet, target: TrainedNet, images: np.ndarray) -> tuple[float, float, str]:
    """The largest difference of two nets' scores, absolute and by the largest score, and who computed them.

    Both have plans. Each is computed by its own framework where it has one, else by our net. A ``target`` without a
    BatchNorm on the images gets them as that of ``source`` leaves them.
    """
    given = images
    if require_plan(source).data_norm and not require_plan(target).data_norm:
        given = normalise(images, *reading.input_normalisation(source))
    expected, found = _compute(source, images), _compute(target, given)
    absolute = float(np.abs(expected - found).max())
    whose = ", ".join(f"{name} by {net.computed_by}" for name, net in (("source", source), ("target", target)))
    largest = float(np.abs(expected).max())
    return absolute, absolute / largest if absolute else 0.0, whose


def _compute(net: TrainedNet, images: np.ndarray) -> np.ndarray:
    return net.scores(images) if net.scores else graphs.compute_scores(net, images)


def compare_probabilities(
    net: TrainedNet,
    expected: Callable[[np.ndarray], np.ndarray],
    found: Callable[[np.ndarray], np.ndarray],
) -> list[str]:
    """Sentences on how far two ways to compute the probabilities of ``net`` differ, on random images and photographs.

    Raises NotProven where a probability differs by more than LARGEST_DIFFERENCE, or the best five classes are others
    (of classes whose probabilities differ by less than that, either may be among them).
    """
    sentences = []
    for kind, images in make_images(net).items():
        before, after = expected(images), found(images)
        difference = float(np.abs(before - after).max())
        best = np.sort(before)[:, ::-1][:, :5]
        chosen = np.take_along_axis(before, np.argsort(-after)[:, :5], axis=1)
        same = float(np.abs(best - chosen).max()) <= LARGEST_DIFFERENCE
        if not (difference <= LARGEST_DIFFERENCE and same):  # not so for NaN
            raise NotProven(f"on {kind} images a probability differs by {difference:.2e} from the checkpoint's")
        sentences.append(f"{len(images)} {kind} images: same top-5, probabilities differ by at most {difference:.2e}")
    return sentences


def describe(net: TrainedNet) -> list[str]:
    """What a net with a plan is, in sentences. Raises UserError where its arrays do not fit its plan."""
    plan, graph = require_plan(net), graphs.build_training_graph(net)
    layers, projections = trained.count_layers(graph), trained.count_projections(graph)
    shortcuts = f" and {projections} projections on shortcuts" if projections else ""
    parameters = trained.count_parameters(graph, plan)
    units = ", ".join(str(units) for units, _ in plan.dimensions[1:])
    planes = ", ".join(str(planes) for _, planes in plan.dimensions[1:])
    kind = "pre-activation" if plan.preact else "post-activation"
    block = "bottleneck" if plan.bottleneck else "basic"
    return [
        f"Found: {net.origin}",
        f"  {kind} ResNet of {units} {block} units, {planes} planes, width {plan.width}, {plan.shortcut} shortcuts, "
        f"for {'small' if plan.small_images else 'large'} images, {net.classes or 'no'} classes",
        f"  {layers - projections} layers{shortcuts}, {parameters:,} parameters",
    ]
