"""Trained nets out of training. What is written is computed and compared before it is left on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import locked, staged
from mxnet_resnet.engines.net import TrainedNet, require_classes, require_graph
from mxnet_resnet.runs import checkpoint, ownership
from mxnet_resnet.runs.graph import Graph
from mxnet_resnet.use import proof, reading, samples, writing
from mxnet_resnet.use.proof import NotProven
from mxnet_resnet.use.samples import Sample

BATCH = 50  # images that a net in int8 is calibrated and measured on at a time


@dataclass(frozen=True)
class Calibration:
    """How a net is put into int8.

    Attributes:
        records: the .rec file to calibrate on.
        others: that to measure the error on; else on other records of the same.
        images: how many to calibrate on, and to measure on.
        mode: of int8.quantize.
        most: percent that the top-1 error may rise by.
    """

    records: Path
    others: Path | None = None
    images: int = 500
    mode: str = "naive"
    most: float = 2.0


def export_folded(prefix: str, net: TrainedNet) -> list[str]:
    """Write a net as ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, from images in 0..255 to probabilities.

    Its BatchNorms are folded into convolutions where that is exact. Returns sentences on what it is; raises NotProven,
    and leaves no file.
    """
    from mxnet_resnet.engines.mxnet import nets
    from mxnet_resnet.engines.mxnet.graphs import deployment

    deployed = deployment.deploy(net)
    folded = deployment.fold(deployed)
    before, after = (require_graph(one).count("BatchNorm") for one in (deployed, folded))

    def prove(written: TrainedNet, graph: Graph) -> list[str]:
        expected, found = (partial(nets.compute_scores, each) for each in (deployed, written))
        sentences = proof.prove(deployed, expected, found, partial(nets.compute, graph, written.arrays))
        return [f"{before - after} of {before} BatchNorms folded", *describe_output(net), *sentences]

    return write_proven(prefix, folded, prove)


def export_onnx(path: Path, net: TrainedNet, names: Sequence[str]) -> list[str]:
    """Write a net as ONNX, once ONNX Runtime has computed from it what MXNet does; ``names`` are of its classes.

    Returns sentences on what it is; raises NotProven, and leaves no file.
    """
    from mxnet_resnet.engines.mxnet import nets, onnx
    from mxnet_resnet.engines.mxnet.graphs import deployment

    deployed = deployment.deploy(net)
    with staged(path) as (temporary,):
        onnx.write(temporary, deployed, names)
        written = onnx.open_runtime(temporary, deployed.activation)
        expected = partial(nets.compute_scores, deployed)
        sentences = proof.prove(deployed, expected, written.compute_scores, written.compute)
        return [onnx.versions(), *describe_output(net), *sentences]


def export_int8(prefix: str, net: TrainedNet, calibration: Calibration) -> list[str]:
    """Write a net in int8 as a checkpoint, where its error rises by at most what ``calibration`` allows.

    Returns sentences on what it is; raises NotProven, and leaves no file, and UserError where the images are too few.
    """
    from mxnet_resnet.engines.mxnet import int8
    from mxnet_resnet.engines.mxnet.graphs import deployment

    deployed = deployment.deploy(net)
    sample, others = samples.take_two(require_classes(net), calibration.images, calibration.records, calibration.others)
    check_number(len(others.numbers), calibration.most)
    before, labels = compute_scores(deployed, others)
    images = [deployed.as_input(crops[:, 0]) for crops, _ in sample.batches(net.image_shape, "center", BATCH)]
    quantized = int8.quantize(deployment.fold(deployed), np.concatenate(images), calibration.mode)

    def prove(written: TrainedNet, graph: Graph) -> list[str]:
        try:
            after, _ = compute_scores(written, others)
        except UserError as error:
            raise UserError(f"the net cannot be put into int8: {error}") from error
        wrong_before, wrong_after = (scores.argmax(axis=1) != labels for scores in (before, after))
        return [
            f"calibrated on {len(sample.numbers)} images of {sample.path}",
            *judge_rise(wrong_before, wrong_after, calibration.most),
            proof.describe_rounding(before, after),
        ]

    return write_proven(prefix, quantized, prove)


def check_number(number: int, most: float) -> None:
    """Raise UserError where so many images cannot tell a rise of the error by ``most`` percent from chance."""
    needed = proof.count_images_needed(most)
    if number < needed:
        asked = f"take {needed:,.0f}" if most else "take some"
        raise UserError(
            f"{number} images to measure on cannot tell a rise of the error by {most:g}% from chance: {asked} "
            "(--images, of --val or of --calib), or a larger --most"
        )


def judge_rise(before: np.ndarray, after: np.ndarray, most: float) -> list[str]:
    """Sentences on the errors (N,), bool, of a net before int8 and after it. Raises NotProven for too large a rise."""
    errors = (f"{100 * wrong.mean():.2f}%" for wrong in (before, after))
    rise, low, high = proof.measure_rise(before, after)
    found = f"top-1 error on {len(before):,} images {' before and '.join(errors)} after"
    interval = f"a rise of {rise:.2f}%, {low:.2f} to {high:.2f}% with {proof.CONFIDENCE} confidence"
    if rise > most:
        raise NotProven(f"{found} int8: {interval}; try more --images, or the other --calib-mode")
    if high <= most:
        return [found, interval]
    return [found, f"{interval}: more than the {most:g}% of --most is not ruled out, which more --images would do"]


def compute_scores(net: TrainedNet, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The scores (N, classes) of a net on the images of a sample, by MXNet on the CPU, and their labels (N,)."""
    engine = engines.choose("mxnet")
    predictor = engine.predictor(net, engine.choose_devices([], None), BATCH, "float32")
    batches = sample.batches(net.image_shape, "center", BATCH)
    found = [(predictor.scores(net.as_input(crops[:, 0])), labels) for crops, labels in batches]
    scores, labels = map(np.concatenate, zip(*found))
    return scores, labels


def describe_output(net: TrainedNet) -> list[str]:
    """What an export gives where that is no probabilities of classes, in a sentence."""
    return [] if net.activation else [f"it gives its output {net.output} as it is, and no probabilities of classes"]


def export_torch(path: Path, net: TrainedNet, layout: str | None = None) -> list[str]:
    """Write a net as a state_dict (writing.write_torch) that PyTorch computes the same scores from.

    Returns sentences on what it is; raises NotProven, and leaves no file.
    """
    source = reading.recognise(net)
    with staged(path) as (temporary,):
        sentences = [f"from {source.origin}", writing.write_torch(temporary, source, layout)]
        written = reading.read_known(str(temporary))
        agreement, whose = proof.compare_nets(source, written, proof.make_images(source))
        if not agreement.proven:
            raise NotProven("; ".join(agreement.describe(whose)))
    return [*sentences, *agreement.describe(whose)]


def write_proven(prefix: str, net: TrainedNet, prove: Callable[[TrainedNet, Graph], list[str]]) -> list[str]:
    """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, once what was written has passed ``prove``.

    ``prove`` gets the net as it is loaded from the files, and the graph in them, to probabilities. Returns what it
    says; what it raises leaves no file. Raises UserError where a run has the prefix.
    """
    paths = checkpoint.graph_path(prefix), checkpoint.params_path(prefix, 0)
    with locked(checkpoint.lock_path(prefix), "give another --out"), staged(*paths) as (graph_path, _):
        ownership.check_no_checkpoint(paths[0])
        staging = str(graph_path).removesuffix(checkpoint.GRAPH_ENDING)
        writing.write_probabilities(staging, net)
        graph = checkpoint.load_graph(staging)
        params, statistics = checkpoint.load_params(staging, 0)
        scores = graph.up_to(graph.last.inputs[0]) if net.activation else graph
        return prove(replace(net, graph=scores, params=params, statistics=statistics), graph)
