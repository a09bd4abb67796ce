"""Trained nets to files: checkpoints of MXNet's Module, parameters of Gluon, state_dicts of PyTorch. One way out.

What is written here has a plan, and is proven elsewhere (use/export.py, commands/convert.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.engines.net import TrainedNet, require_graph, require_plan
from mxnet_resnet.plans import architecture, layouts
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint, params
from mxnet_resnet.use import graphs, reading

OURS = "mxnet_resnet"
LAYOUTS = ("torchvision", "torch-resnet", OURS)  # names in a state_dict
TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")  # that PyTorch is written to; it is read from others too


def write_module(prefix: str, net: TrainedNet) -> Path:
    """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, which end in a softmax and every MXNet tool loads.

    Raises UserError where the arrays of the net do not fit its plan.
    """
    graph = graphs.build_training_graph(net)
    order = graph.variables
    ordered = ({name: kind[name] for name in order if name in kind} for kind in (net.params, net.statistics))
    return checkpoint.save(prefix, 0, graph.to_text(), *ordered)


def write_probabilities(prefix: str, net: TrainedNet) -> Path:
    """Write ``PREFIX-symbol.json``, the graph of a net with its activation, and ``PREFIX-0000.params``."""
    from mxnet_resnet.engines.mxnet import symbols

    text = symbols.from_graph(require_graph(net).with_activation(net.activation)).tojson()  # as MXNet's tools expect it
    return checkpoint.save(prefix, 0, text, net.params, net.statistics)


def write_gluon(path: Path, net: TrainedNet) -> None:
    """Write the parameters for ``load_parameters`` of the Gluon net, and its plan to ``NAME-architecture.json``.

    Raises UserError where the arrays of the net do not fit its plan.
    """
    from mxnet_resnet.engines.mxnet import nets

    arrays = net.arrays
    named = {theirs: arrays[ours] for theirs, ours in nets.list_gluon_names(net).items()}
    with replacing(reading.note_path(path), path) as (note, parameters):
        note.write_text(json.dumps(asdict(require_plan(net)), indent=1))
        params.write(parameters, named)


def write_torch(path: Path, net: TrainedNet, layout_name: str | None = None) -> str:
    """Write a state_dict (of TORCH_SUFFIXES) that a net of PyTorch loads with ``strict=True``.

    ``layout_name``, one of LAYOUTS, says whose net that is: by default torchvision's where it has such nets, else
    torch-resnet's, and where that has no place for this one ours, of mxnet_resnet.torch, with the plan of the net noted
    in the file. Returns the sentence that says whose net it is, why, and which input it takes. Raises UserError for a
    net that it cannot be.
    """
    from mxnet_resnet.engines.torch import nets, state_dict

    plan = require_plan(net)
    layout = _choose_layout(plan, layout_name)
    reason = find_reason_against(plan, layout)
    if (layout_name == OURS or (layout_name is None and reason)) and plan.block is None:
        arrays = nets.make_state_dict(plan, net.classes, net.arrays)
        state_dict.save(path, arrays, json.dumps(asdict(plan)))
        why = f" ({layout.name} cannot be this net, which has {reason})" if reason else ""
        return f"mxnet_resnet.torch {'PreActResNet' if plan.preact else 'ResNet'}{why}, {_describe_own_input(net)}"
    if reason:
        other = "" if plan.block else f"; mxnet_resnet.torch can: --layout {OURS}"
        raise UserError(f"{layout.name} cannot be this net, which has {reason}{other}")
    state_dict.save(path, _name_for_torch(net, layout))
    return f"{layout.name}, {_describe_input(net)}"


def _choose_layout(plan: Architecture, name: str | None) -> layouts.Layout:
    planes = tuple(planes for _, planes in plan.dimensions)
    nameable = not plan.preact and not plan.small_images and plan.shortcut == "projection"
    nameable &= len(planes) == len(architecture.IMAGENET_PLANES) and (plan.bottleneck or plan.width == 1)
    if name == "torchvision" and not nameable:
        raise UserError(
            "torchvision has post-activation nets of four stages for large images, with projection shortcuts, and wide "
            "ones of bottlenecks"
        )
    if name == "torchvision" or (name is None and nameable and planes == architecture.IMAGENET_PLANES):
        return layouts.TORCHVISION
    if not plan.preact:
        return layouts.TORCH_RESNET
    return layouts.TORCH_RESNET_PREACT_SMALL if plan.small_images else layouts.TORCH_RESNET_PREACT


def find_reason_against(plan: Architecture, layout: layouts.Layout) -> str | None:
    """What a net of a plan has that the nets of a library of PyTorch have not, or None."""
    stem_to_first = plan.dimensions[0][1] != plan.dimensions[1][1] * (4 if plan.bottleneck else plan.width)
    reasons = {
        "a BatchNorm behind its first convolution": plan.preact and plan.stem_norm,
        "no ReLU behind its first convolution": not plan.preact and not (plan.stem_norm and plan.stem_relu),
        "a projection in its first unit, where the shapes match": plan.project_first and not stem_to_first,
        "the stride of its bottlenecks in the first convolution": plan.bottleneck and plan.stride_first,
        "biases in its convolutions": plan.bias,
        f"units of the block {plan.block}": plan.block is not None,
        f"the shortcut {plan.shortcut}": plan.shortcut in ("raw_projection", "centered_identity"),
    }
    return next((reason for reason, true in reasons.items() if true), None)


def _name_for_torch(net: TrainedNet, layout: layouts.Layout) -> dict[str, np.ndarray]:
    """The arrays under the names of a PyTorch layout; the BatchNorm on the images is left out (see _describe_input).

    PyTorch's nets have an epsilon of 1e-5: what this net's is above that is added to its running variances.
    """
    plan = require_plan(net)
    stages = len(plan.dimensions) - 1
    result = {}
    for name, array in net.arrays.items():
        layer, _, kind = name.replace("_moving_", "_moving-").rpartition("_")
        kind = kind.replace("-", "_")
        if layer == "bn_data":
            continue
        theirs = _name_layer(layout, layer, stages)
        if kind == "moving_var":
            array = array + np.float32(plan.epsilon - layouts.TORCH_EPSILON)
            result[f"{theirs}.{layouts.TORCH_COUNTER}"] = np.array(0, np.int64)
        kinds = {ours: name for name, ours in layout.norm.items()} if layouts.is_norm(layer) else layouts.WEIGHTS
        result[f"{theirs}.{kinds[kind]}"] = array
    return result


def _name_layer(layout: layouts.Layout, layer: str, stages: int) -> str:
    match = re.fullmatch(r"stage(\d+)_unit(\d+)_(\w+)", layer)
    if match:
        return layout.unit_layer(int(match[1]), int(match[2]), match[3])
    name = layout.top_layer(layer, stages)
    if name is None:
        raise UserError(f"{layout.name} cannot be this net, which has a layer {layer}")
    return name


def _describe_input(net: TrainedNet) -> str:
    if not require_plan(net).data_norm:
        return "for the input that the source takes"
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in reading.input_normalisation(net))
    images = "RGB images in 0..255" if net.takes_bytes else "the input that the source takes"
    return f"for {images}, less {mean}, by {std}"


def _describe_own_input(net: TrainedNet) -> str:
    if require_plan(net).data_norm and net.takes_bytes:
        return "for RGB images in 0..255"
    return "for the input that the source takes"
