"""Whether two nets are the same: their scores on random images and on photographs; and what errors on images prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import cv2
import numpy as np

from mxnet_resnet.data.transform import evaluation_transform, read_image
from mxnet_resnet.engines.graphs import outputs, trained
from mxnet_resnet.engines.net import Scores, TrainedNet, normalise, require_graph, require_plan
from mxnet_resnet.use import graphs, reading
from mxnet_resnet.use.classifier import PROBABILITIES

LARGEST_DIFFERENCE = 1e-4  # of scores, by how far they spread; of probabilities
# Scores of a class that differ less between images, by the largest score, are those of a last bias more than of a net.
SMALLEST_SPREAD = 0.05
CONFIDENCE, DEVIATIONS = "95%", 1.96  # of an interval, and how many deviations it goes up and down
USUAL_ROUNDING = 0.1  # of int8, by the deviation of scores: README.md has nets on which it was measured
COARSE = 4  # patches along a side of a random image of large patches


class NotProven(Exception):
    """An export that does not compute what its source does."""


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute the scores of the same images agree.

    Attributes:
        differences: the largest, of each kind of images, with how many images these are.
        spread: how far the scores of a class differ between all these images, at most.
        largest: the largest score.
        ranked: whether they are scores of classes.
    """

    differences: Mapping[str, tuple[int, float]]
    spread: float
    largest: float
    ranked: bool

    @property
    def relative(self) -> dict[str, float]:
        """The differences by the spread, or by SMALLEST_SPREAD of the largest score where they spread less."""
        scale = max(self.spread, SMALLEST_SPREAD * self.largest)
        return {kind: found and found / scale if scale else found for kind, (_, found) in self.differences.items()}

    @property
    def proven(self) -> bool:
        """Whether no score differs by more than LARGEST_DIFFERENCE."""
        return all(relative <= LARGEST_DIFFERENCE for relative in self.relative.values())  # not so for NaN

    def describe(self, whose: str = "") -> list[str]:
        """In sentences; ``whose`` tells who computed the scores."""
        sentences = []
        for kind, (number, found) in self.differences.items():
            share = f"{self.relative[kind]:.2e} of the scores' spread"
            best = ", same top-5" if self.ranked and self.proven else ""
            told = f"{number} {kind} images: largest difference {found:.2e}, {share}{best}"
            sentences.append(f"{told} ({whose})" if whose else told)
        if not self.spread >= SMALLEST_SPREAD * self.largest or not self.largest:
            sentences.append(
                f"the scores hardly differ between these images, by {self.spread:.2e} where the largest is "
                f"{self.largest:.2e}: this proves little"
            )
        return sentences


def make_images(net: TrainedNet, paths: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Random images and photographs (N, 3, H, W) as the net takes them; without paths, scikit-learn's two and parts."""
    _, height, width = net.image_shape
    random = np.random.RandomState(0).normal(128, 64, (4, height, width, 3))
    patches = np.random.RandomState(1).normal(128, 64, (2, COARSE, COARSE, 3))
    random[2:] = [cv2.resize(patch, (width, height), interpolation=cv2.INTER_NEAREST) for patch in patches]
    photographs = [evaluation_transform(image, net.image_shape).round() for image in _photographs(paths)]
    both = {"random": random, "real": np.stack(photographs)}
    return {kind: net.as_input(images.clip(0, 255).astype(np.uint8)) for kind, images in both.items()}


def _photographs(paths: Sequence[str]) -> list[np.ndarray]:
    if paths:
        return [read_image(path) for path in paths]
    from sklearn.datasets import load_sample_images

    whole = load_sample_images().images
    return [*whole, *(image[: len(image) // 2, : image.shape[1] // 2] for image in whole)]


def compare(images: Mapping[str, np.ndarray], expected: Scores, found: Scores, ranked: bool = True) -> Agreement:
    """How far two ways to compute scores agree on images, by kind, as of `make_images`."""
    before = {kind: _as_rows(expected(batch), batch) for kind, batch in images.items()}
    after = {kind: _as_rows(found(batch), batch) for kind, batch in images.items()}
    differences = {kind: (len(images[kind]), float(np.abs(before[kind] - after[kind]).max())) for kind in images}
    every = np.concatenate([*before.values()])
    return Agreement(differences, float(np.ptp(every, axis=0).max()), float(np.abs(every).max()), ranked)


def _as_rows(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    if not scores.shape or len(scores) != len(images):
        raise NotProven(f"of {len(images)} images it gives an array {scores.shape}, not something of each")
    return scores.reshape(len(scores), -1)


def prove(
    net: TrainedNet,
    expected: Scores,
    found: Scores,
    probabilities: Callable[[np.ndarray], np.ndarray],
) -> list[str]:
    """Sentences on how far what was written agrees with ``net``, on random images and photographs.

    ``expected`` and ``found`` compute the scores of the net and of what was written, before the activation;
    ``probabilities`` what that gives in the end. Raises NotProven where a score differs by more than LARGEST_DIFFERENCE
    of how far the scores spread, or what it gives are not the probabilities of the scores.
    """
    images = make_images(net)
    agreement = compare(images, expected, found, ranked=net.activation is not None)
    if not agreement.proven:
        raise NotProven("; ".join(agreement.describe()))
    if net.activation is not None:
        for batch in images.values():
            away = float(np.abs(PROBABILITIES[net.activation](found(batch)) - probabilities(batch)).max())
            if not away <= LARGEST_DIFFERENCE:
                raise NotProven(f"a probability is not the {net.activation} of its score: it differs by {away:.2e}")
    return [*agreement.describe(), *_tell_hidden(net)]


def _tell_hidden(net: TrainedNet) -> list[str]:
    """What an output that is not known to be scores can hide of what it is computed of, in a sentence."""
    hiding = outputs.find_hiding(require_graph(net)) if net.activation is None else None
    if hiding is None:
        return []
    return [
        f"the output is behind {hiding.name} (a {hiding.op}), which can hide differences: this proves little; --output "
        "with the operator before that gives scores, which are proven"
    ]


def compare_nets(source: TrainedNet, target: TrainedNet, images: Mapping[str, np.ndarray]) -> tuple[Agreement, str]:
    """How far the scores of two nets with plans agree, and who computed them.

    Each is computed by its own framework where it has one, else by our net. A ``target`` without a BatchNorm on the
    images gets them as that of ``source`` leaves them.
    """
    absorbed = bool(require_plan(source).data_norm) and not require_plan(target).data_norm

    def found(batch: np.ndarray) -> np.ndarray:
        return _compute(target, normalise(batch, *reading.input_normalisation(source)) if absorbed else batch)

    whose = ", ".join(f"{name} by {net.computed_by}" for name, net in (("source", source), ("target", target)))
    return compare(images, lambda batch: _compute(source, batch), found, source.classes is not None), whose


def _compute(net: TrainedNet, images: np.ndarray) -> np.ndarray:
    return net.scores(images) if net.scores else graphs.compute_scores(net, images)


def count_images_needed(most: float) -> float:
    """How many images tell a rise of the error by ``most`` percent from none, where the net errs on the same ones.

    Infinite for 0.
    """
    return ceil(DEVIATIONS * sqrt(2) / (most / 100)) - 2 if most else float("inf")


def measure_rise(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """By how many percent more images (N,) are wrong after a change, and the CONFIDENCE interval of that.

    Of pairs, by Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37 (2012).
    """
    number = len(before) + 2
    worse, better = (int(pairs.sum()) for pairs in (after & ~before, before & ~after))
    middle = (worse - better) / number
    reach = DEVIATIONS * sqrt(((worse + better + 2) / number - middle**2) / number)
    return 100 * (worse - better) / len(before), 100 * (middle - reach), 100 * (middle + reach)


def describe_rounding(before: np.ndarray, after: np.ndarray) -> str:
    """How far int8 moves scores (N, classes), and how often the best class, which an error need not tell."""
    same = (before.argmax(axis=1) == after.argmax(axis=1)).mean()
    moved = np.sqrt(np.square(after - before).mean() / before.var(axis=0).mean())
    told = f"the same class on {same:.2%} of them; scores are off by {moved:.1%} of their deviation"
    return told if moved <= USUAL_ROUNDING else f"{told}, more than the 3 to 8% of ResNet-20 on CIFAR-10"


def describe(net: TrainedNet) -> list[str]:
    """What a net with a plan is, in sentences. Raises UserError where its arrays do not fit its plan."""
    plan, graph = require_plan(net), graphs.build_training_graph(net)
    layers, projections = trained.count_layers(graph), trained.count_projections(graph)
    shortcuts = f" and {projections} projection{'s' * (projections > 1)} on shortcuts" if projections else ""
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
