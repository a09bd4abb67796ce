"""Trained nets out of training. What is written is computed and compared before it is left on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mxnet_resnet import engines
from mxnet_resnet.base.files import staged
from mxnet_resnet.engines.net import TrainedNet, require_classes, require_graph
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.graph import Graph
from mxnet_resnet.use import evaluate, proof, reading, samples, writing
from mxnet_resnet.use.classifier import Classifier
from mxnet_resnet.use.proof import LARGEST_DIFFERENCE, NotProven
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
        expected = partial(nets.compute_probabilities, deployed)
        found = proof.compare_probabilities(deployed, expected, partial(nets.compute, graph, written.arrays))
        return [f"{before - after} of {before} BatchNorms folded", *found]

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
        expected = partial(nets.compute_probabilities, deployed)
        return [onnx.versions(), *proof.compare_probabilities(deployed, expected, onnx.open_runtime(temporary))]


def export_int8(prefix: str, net: TrainedNet, calibration: Calibration) -> list[str]:
    """Write a net in int8 as a checkpoint, where its error rises by at most what ``calibration`` allows.

    Returns sentences on what it is; raises NotProven, and leaves no file.
    """
    from mxnet_resnet.engines.mxnet import int8
    from mxnet_resnet.engines.mxnet.graphs import deployment

    deployed = deployment.deploy(net)
    sample, others = samples.take_two(require_classes(net), calibration.images, calibration.records, calibration.others)
    before = measure_error(deployed, others)
    images = [deployed.as_input(crops[:, 0]) for crops, _ in sample.batches(net.image_shape, "center", BATCH)]
    quantized = int8.quantize(deployment.fold(deployed), np.concatenate(images), calibration.mode)

    def prove(written: TrainedNet, graph: Graph) -> list[str]:
        after = measure_error(written, others)
        found = f"top-1 error on {len(others.numbers)} images {before:.2f}% before and {after:.2f}% after"
        if after > before + calibration.most:
            raise NotProven(f"{found} int8: try more --images, or the other --calib-mode")
        return [f"calibrated on {len(sample.numbers)} images of {sample.path}", found]

    return write_proven(prefix, quantized, prove)


def measure_error(net: TrainedNet, sample: Sample) -> float:
    """The top-1 error of a net on a sample, in percent, on the CPU."""
    engine = engines.choose("mxnet")
    return evaluate.evaluate(
        Classifier(engine.predictor(net, engine.choose_devices([], None), BATCH, "float32")), sample
    ).top1


def export_torch(path: Path, net: TrainedNet, layout: str | None = None) -> list[str]:
    """Write a net as a state_dict (writing.write_torch) that PyTorch computes the same scores from.

    Returns sentences on what it is; raises NotProven, and leaves no file.
    """
    source = reading.recognise(net)
    with staged(path) as (temporary,):
        sentences = [writing.write_torch(temporary, source, layout)]
        written = reading.read_known(str(temporary))
        for kind, images in proof.make_images(source).items():
            _, difference, whose = proof.compare_scores(source, written, images)
            if not difference <= LARGEST_DIFFERENCE:  # not so for NaN
                raise NotProven(f"on {kind} images the scores differ by {difference:.2e} of the largest")
            sentences.append(
                f"{len(images)} {kind} images: largest difference {difference:.2e} of the scores ({whose})"
            )
    return sentences


def write_proven(prefix: str, net: TrainedNet, prove: Callable[[TrainedNet, Graph], list[str]]) -> list[str]:
    """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, once what was written has passed ``prove``.

    ``prove`` gets the net as it is loaded from the files, and the graph in them, to probabilities. Returns what it
    says; what it raises leaves no file.
    """
    with staged(checkpoint.graph_path(prefix), checkpoint.params_path(prefix, 0)) as (graph_path, _):
        staging = str(graph_path).removesuffix(checkpoint.GRAPH_ENDING)
        writing.write_probabilities(staging, net)
        graph = checkpoint.load_graph(staging)
        params, statistics = checkpoint.load_params(staging, 0)
        return prove(replace(net, graph=graph.without_softmax(), params=params, statistics=statistics), graph)
