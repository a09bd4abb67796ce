"""The plan of a net that came as a graph: of the nets that its parameters can belong to, the one that computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Optional

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs import arithmetic, emission, imagenorm, scaling
from mxnet_resnet.engines.graphs.match import match_names
from mxnet_resnet.engines.net import TrainedNet, require_graph
from mxnet_resnet.plans import architecture, layouts
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs.checkpoint import Shape
from mxnet_resnet.runs.graph import IMAGES, Graph

FROZEN = ", its frozen BatchNorms (use_global_stats) as ordinary ones, which is the same in prediction"

MakeGraph = Callable[[Architecture, Optional[int]], Graph]  # of a plan and a number of classes


class UnknownNetError(UserError):
    """A graph that is none of the nets known here."""


def recognise(net: TrainedNet, plan: Architecture | None = None, make_graph: MakeGraph = emission.emit) -> TrainedNet:
    """``net``, which has a graph, with its plan, and with its arrays in float32 by our names in place of its graph.

    ``plan`` is taken in place of those that names and shapes can tell; ``make_graph`` writes the graphs of plans.
    Arithmetic on the images goes into the BatchNorm on them.
    Raises UserError where the graph is none of our nets, or lacks arrays.
    """
    graph, arrays = require_graph(net), net.arrays
    needed = {name for name in graph.variables if name != IMAGES and not name.endswith("label")}
    for name in sorted(needed - arrays.keys()):
        raise UserError(f"the checkpoint does not fit its graph: it has no {name}")
    graph, *of_scores = arithmetic.strip_scores(graph)
    stripped = (scaling.strip(graph, arrays, norms) for norms in (False, True))
    for part, scaled in [(graph, None), *filter(None, stripped)]:
        found = _match(replace(net, graph=part), plan, make_graph)
        if found is not None and scaled is not None and not scaled.exact:
            raise UnknownNetError(
                f"the graph {net.name} is a ResNet known here behind arithmetic on its images that is more than a "
                "factor and a shift by channel (a mean of each pixel, a clip, a cast)"
            )
        if found is not None:
            found = _scale_classifier(found, *of_scores)
            return found if scaled is None else imagenorm.prepend(found, scaled)
    raise UnknownNetError(
        f"the graph {net.name} fits no family of ResNets known here; its first parameters: "
        + ", ".join([*net.shapes][:3])
    )


def _scale_classifier(net: TrainedNet, factor: float, shift: float) -> TrainedNet:
    """A net whose scores are times ``factor`` plus ``shift``. Raises UnknownNetError for features in their place."""
    if (factor, shift) == (1, 0):
        return net
    if net.classes is None:
        raise UnknownNetError(f"the graph {net.name} is a ResNet known here with arithmetic on its features")
    weight, bias = (net.params[f"fc1_{kind}"].astype(np.float64) for kind in ("weight", "bias"))
    scaled = {"fc1_weight": weight * factor, "fc1_bias": bias * factor + shift}
    params = {**net.params, **{name: array.astype(np.float32) for name, array in scaled.items()}}
    return replace(net, params=params, origin=f"{net.origin}, with the arithmetic on its scores in its classifier")


def _match(net: TrainedNet, plan: Architecture | None, make_graph: MakeGraph) -> TrainedNet | None:
    """As `recognise`, None where the graph is none of our nets; arrays that it has not are left out."""
    graph, arrays = require_graph(net), net.arrays
    shapes = {name: arrays[name].shape for name in graph.variables if name in arrays}
    given = [("the net that was named", plan, _classes(shapes))] if plan else None
    for origin, candidate, classes in given or _list_candidates(shapes, make_graph):
        names = match_names(make_graph(candidate, classes), graph)
        if names is None:
            continue
        found = {mine: arrays[theirs].astype(np.float32) for mine, theirs in names.items() if mine != IMAGES}
        statistics = {mine for mine, theirs in names.items() if theirs in net.statistics}
        return replace(
            net,
            params={name: array for name, array in found.items() if name not in statistics},
            statistics={name: array for name, array in found.items() if name in statistics},
            classes=classes,
            graph=None,
            plan=candidate,
            origin=f"MXNet graph of {origin}" + FROZEN * graph.has_frozen_norms,
        )
    return None


def _classes(shapes: Mapping[str, Shape]) -> int | None:
    """The outputs of the only dense layer, or None where there is none."""
    return next((shape[0] for shape in shapes.values() if len(shape) == 2), None)


def _list_candidates(
    shapes: Mapping[str, Shape], make_graph: MakeGraph
) -> Iterator[tuple[str, Architecture, int | None]]:
    """The plans, with their classes, that parameters of these shapes can belong to."""
    if "conv0_weight" in shapes:
        try:
            plan, classes = layouts.infer(shapes)
        except UserError:  # a first convolution of that name is not yet one of our nets
            return
        data_norms = architecture.DATA_NORMS[1:] if plan.data_norm else (None,)
        shortcuts = {"identity": ("identity", "centered_identity"), "projection": ("projection", "raw_projection")}
        variants = product(
            data_norms,
            (True, False),
            (False, True) if plan.bottleneck else (False,),
            (architecture.SYMBOLIC_EPSILON, layouts.TORCH_EPSILON),
            shortcuts.get(plan.shortcut, (plan.shortcut,)),
        )
        for data_norm, stem_relu, stride_first, epsilon, shortcut in variants:
            variant = replace(
                plan,
                data_norm=data_norm,
                stem_relu=stem_relu,
                stride_first=stride_first,
                epsilon=epsilon,
                shortcut=shortcut,
            )
            yield "this project or the MXNet ResNet-v2 repository", variant, classes
        return
    weights = sorted(shape for shape in shapes.values() if len(shape) == 4)
    for name, plan in architecture.MODELS.items():
        units = sum(units for units, _ in plan.dimensions[1:])
        without_shortcuts = 1 + units * (3 if plan.bottleneck else 2)
        if not without_shortcuts <= len(weights) <= without_shortcuts + units:
            continue
        try:
            graph = make_graph(plan, None)
        except UserError:  # its units are of a block that nobody knows here
            continue
        if sorted(shape for shape in graph.noted_shapes.values() if len(shape) == 4) == weights:
            for data_norm in (plan.data_norm, "full", None) if plan.data_norm else (None,):
                yield name, replace(plan, data_norm=data_norm), _classes(shapes)
