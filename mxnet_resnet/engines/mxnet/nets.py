"""Trained nets as MXNet's: in Gluon, as a graph, and what they compute."""

from __future__ import annotations

from dataclasses import replace

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import emission, trained
from mxnet_resnet.engines.mxnet import models, shapes, symbols
from mxnet_resnet.engines.mxnet.binding import Executor
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.runs.checkpoint import Arrays, Shape
from mxnet_resnet.runs.graph import IMAGES, SOFTMAX, Graph


def build_gluon(net: TrainedNet) -> models.ResNet | models.PreActResNet:
    """A net with a plan in Gluon, with its arrays. Raises UserError where they do not fit the plan."""
    built, arrays = models.from_architecture(net.plan, net.classes), to_mxnet(net.arrays)
    built.initialize()
    parameters = built.collect_params()
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    checkpoint.check_fit(shapes, net.params, net.statistics)
    for name, parameter in parameters.items():
        parameter.set_data(arrays[name])
    return built


def trace(plan: Architecture, classes: int | None) -> Graph:
    """The graph of a plan with any block, to scores. Raises UserError where there is no such block."""
    return symbols.to_graph(models.from_architecture(plan, classes)(mx.sym.var(IMAGES)))


def build_graph(net: TrainedNet) -> Graph:
    """The graph of a net, to scores; where it has a plan alone, that of our net. Raises UserError as build_gluon."""
    return net.graph or build_training_graph(net).without_softmax()


def build_training_graph(net: TrainedNet) -> Graph:
    """The graph of a net with a plan, with a softmax that takes labels. Raises UserError as build_gluon."""
    if emission.can_emit(net.plan):
        return trained.build_training_graph(net)
    built = build_gluon(net)
    if net.classes is None:
        return symbols.to_graph(built(mx.sym.var(IMAGES)))
    return symbols.to_graph(symbols.softmax(built, image_shape=net.image_shape))


def adopt(net: TrainedNet) -> TrainedNet:
    """A net with its graph and its classes, whose arrays are seen to fit.

    Raises UserError where they do not, where MXNet does not know an operator of the graph, where that does not take
    images of its shape, or what it gives as scores is not (N, classes).
    """
    if net.graph is None:
        return replace(net, graph=build_graph(net))
    shapes, given = infer(net)
    checkpoint.check_fit(shapes, net.params, net.statistics)
    if net.activation is None:
        return net
    if len(given) != 2 or (given[1] == 1 and net.activation == SOFTMAX):
        shape = ", ".join(map(str, given[1:]))
        raise UserError(f"{net.name} gives no scores of classes (N, classes): its output has shape (N, {shape})")
    return replace(net, classes=given[1])


def compute_scores(net: TrainedNet, images: np.ndarray) -> np.ndarray:
    """The scores (N, classes) of images (N, 3, H, W) as the net takes them, from its graph as it stands, on the CPU."""
    return compute(build_graph(net), net.arrays, images)


def compute(graph: Graph, arrays: Arrays, images: np.ndarray) -> np.ndarray:
    """The first output of a graph as it stands for ``data`` (N, 3, H, W), on the CPU."""
    return bind(graph, arrays).compute(images)


def bind(graph: Graph, arrays: Arrays) -> Executor:
    """A graph as it stands, ready to compute on the CPU."""
    return Executor(symbols.from_graph(graph), to_mxnet(arrays))


def infer(net: TrainedNet) -> tuple[dict[str, Shape], Shape]:
    """The shapes that the arrays of a net with a graph are to have, by name, and that of what it gives of one image.

    Raises UserError where MXNet does not know its operators, or it does not take images of its shape.
    """
    try:
        symbol = shapes.without_notes(symbols.from_graph(net.graph))
    except mx.base.MXNetError as error:
        raise UserError(f"the graph of {net.name} is damaged or not an MXNet graph") from error
    try:
        found = shapes.infer(symbol, {IMAGES: (1, *net.image_shape)}, net.shapes)
    except UserError as error:
        for name in sorted({*symbol.list_arguments()} - {*net.arrays, IMAGES}):
            raise UserError(
                f"the graph of {net.name} needs {name}, which is neither its images, {IMAGES}, nor in the checkpoint"
            ) from error
        raise UserError(
            f"the net does not take images of {net.image_shape}: --image-shape says which it takes ({error})"
        ) from error
    shapes_of = found.variables.items()
    parameters = {name: shape for name, shape in shapes_of if name != IMAGES and not name.endswith("label")}
    return parameters, found.outputs[0]


def list_gluon_names(net: TrainedNet) -> dict[str, str]:
    """What Gluon's ``load_parameters`` calls each array of a net with a plan: its names, in its order, to ours."""
    return {theirs: parameter.name for theirs, parameter in build_gluon(net)._collect_params_with_prefix().items()}
