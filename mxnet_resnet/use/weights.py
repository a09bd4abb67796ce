"""Checkpoints from elsewhere in, and checkpoints for elsewhere out, all through one form: a plan and named arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.engines.mxnet.graphs import match
from mxnet_resnet.engines.mxnet.ndarrays import Arrays, to_mxnet, to_numpy
from mxnet_resnet.plans import architecture, layouts
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.runs import checkpoint

TORCH_SUFFIXES = (".th", ".pth", ".pt", ".bin", ".safetensors")
TORCH_EPSILON = 1e-5
DATA_NORMS = ("shift", "plain", "full")
LARGEST_NORMALISED_MEAN = 3  # images that a mean and a deviation were taken off have smaller means
MODULE_CHECKPOINT = re.compile(r"(.+)-(\d{4,})\.params")

Scores = Callable[[np.ndarray], np.ndarray]  # images (N, 3, H, W) to scores (N, classes)


@dataclass(frozen=True)
class Weights:
    """A trained net.

    Attributes:
        plan: its architecture.
        classes: its number of classes, or None where it has no classifier.
        arrays: its parameters and running statistics by our names, float32.
        origin: what the checkpoint was recognised as.
        scores: the net as ``computed_by`` computes it, before the softmax, or None where our net has to.
        computed_by: whoever computes the scores.
    """

    plan: Architecture
    classes: int | None
    arrays: Mapping[str, np.ndarray]
    origin: str
    scores: Scores | None = None
    computed_by: str = "our net"

    def net(self) -> models.ResNet | models.PreActResNet:
        """The net in Gluon, with these weights. Raises UserError where they do not fit it."""
        net = models.from_architecture(self.plan, self.classes)
        net.initialize()
        parameters = net.collect_params()
        for name in sorted(parameters.keys() ^ self.arrays.keys()):
            which = "it" if name in parameters else "the net that its other layers make"
            raise UserError(f"the checkpoint does not fit the net: {which} has no {name}")
        for name, parameter in parameters.items():
            if parameter.shape != self.arrays[name].shape:
                raise UserError(
                    f"the checkpoint does not fit the net: {name} has shape {self.arrays[name].shape}, "
                    f"expected {parameter.shape}"
                )
            parameter.set_data(mx.nd.array(self.arrays[name]))
        return net


def read(path: str, epoch: int | None = None, plan: Architecture | None = None) -> Weights:
    """Read a checkpoint of any kind known here.

    ``path`` is the prefix of a Module checkpoint (with ``epoch``) or one of its files, a Gluon .params file, or a
    PyTorch file (.th, .pth, .pt, .bin, .safetensors). ``plan`` is taken in place of the one that graph, names and
    shapes tell. Raises UserError where it is none of these, damaged, or not of ``plan``.
    """
    file = Path(path)
    match = MODULE_CHECKPOINT.fullmatch(path)
    alone = file.suffix in (*TORCH_SUFFIXES, ".params") and not (match and Path(f"{match[1]}-symbol.json").is_file())
    if alone and epoch is not None:
        raise UserError(f"{path} is one file, which has no epoch {epoch}")
    if path.endswith("-symbol.json"):
        return _read_module(path[: -len("-symbol.json")], epoch, plan)
    if not alone:
        return _read_module(match[1], int(match[2]), plan) if match else _read_module(path, epoch, plan)
    return _read_torch(file, plan) if file.suffix in TORCH_SUFFIXES else _read_gluon(file, plan)


def _read_module(prefix: str, epoch: int | None, plan: Architecture | None) -> Weights:
    symbol = symbols.load(prefix)
    params = checkpoint.load_params(prefix, checkpoint.last_epoch(prefix) if epoch is None else epoch)
    return of_graph(symbol, tuple(map(to_mxnet, params)), f"{prefix}-symbol.json", plan)


def of_graph(
    symbol: mx.sym.Symbol,
    params: tuple[Arrays, Arrays],
    name: str,
    plan: Architecture | None = None,
) -> Weights:
    """The net that a graph with its (arguments, auxiliary states) is; ``plan`` and errors as of `read`.

    ``name`` is what to call the graph.
    """
    args, auxs = params
    arrays = {name: array.asnumpy().astype(np.float32) for name, array in {**args, **auxs}.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    needed = {*symbol.list_inputs()} - {name for name in symbol.list_arguments() if name.endswith("label")} - {"data"}
    for name in sorted(needed - arrays.keys()):
        raise UserError(f"the checkpoint does not fit its graph: it has no {name}")
    candidates = _candidates(shapes) if plan is None else [("the net that was named", plan, _classes(shapes))]
    for origin, candidate, classes in candidates:
        net = models.from_architecture(candidate, classes)
        names = match.match(net(mx.sym.var("data")), symbol)
        if names is not None:
            ours = {mine: arrays[theirs] for mine, theirs in names.items() if mine != "data"}
            scores = _symbol_scores(symbol, args, auxs)
            return Weights(candidate, classes, ours, f"MXNet graph of {origin}", scores, "MXNet from its graph")
    raise UserError(
        f"the graph {name} fits no family of ResNets known here; its first parameters: " + ", ".join(list(shapes)[:3])
    )


def _classes(shapes: Mapping[str, layouts.Shape]) -> int | None:
    """The outputs of the only dense layer, or None where there is none."""
    return next((shape[0] for shape in shapes.values() if len(shape) == 2), None)


def _candidates(shapes: Mapping[str, layouts.Shape]) -> Iterator[tuple[str, Architecture, int | None]]:
    """The plans, with their classes, that parameters of these shapes can belong to."""
    if "conv0_weight" in shapes:
        plan, classes = layouts.infer(shapes)
        data_norms = DATA_NORMS if plan.data_norm else (None,)
        shortcuts = {"identity": ("identity", "centered_identity"), "projection": ("projection", "raw_projection")}
        variants = product(
            data_norms,
            (True, False),
            (False, True) if plan.bottleneck else (False,),
            (architecture.SYMBOLIC_EPSILON, TORCH_EPSILON),
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
        parameters = models.from_architecture(plan).collect_params().values()
        if sorted(parameter.shape for parameter in parameters if len(parameter.shape) == 4) == weights:
            for data_norm in (plan.data_norm, "full") if plan.data_norm else (None,):
                yield name, replace(plan, data_norm=data_norm), _classes(shapes)


def _symbol_scores(symbol: mx.sym.Symbol, args: Arrays, auxs: Arrays) -> Scores:
    """A graph without its softmax, bound and computed."""
    graph = match.without_softmax(symbol)

    def scores(images: np.ndarray) -> np.ndarray:
        executor = graph.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
        executor.copy_params_from(args, auxs, allow_extra_params=True)
        return executor.forward(is_train=False, data=mx.nd.array(images))[0].asnumpy()

    return scores


def _read_gluon(path: Path, plan: Architecture | None) -> Weights:
    loaded = checkpoint.load_arrays(path)
    names = {name: name.partition(":")[2] if name.startswith(("arg:", "aux:")) else name for name in loaded}
    arrays = {names[name]: array.astype(np.float32) for name, array in loaded.items()}
    note = _note(path)
    if plan is None and note.is_file():
        plan = _read_note(note)
    if "conv0_weight" in arrays:
        found, classes = layouts.infer({name: array.shape for name, array in arrays.items()})
        origin = "parameters of this project or the MXNet ResNet-v2 repository"
        return Weights(plan or found, classes, arrays, origin)
    return _by_layout(arrays, (*layouts.GLUON_LAYOUTS, *layouts.OUR_GLUON_LAYOUTS), plan)[0]


def _by_layout(
    arrays: Mapping[str, np.ndarray], known: tuple[layouts.Layout, ...], plan: Architecture | None
) -> tuple[Weights, layouts.Layout]:
    layout, names = layouts.recognise({name: array.shape for name, array in arrays.items()}, known)
    ours = {mine: np.asarray(arrays[theirs], np.float32) for mine, theirs in names.items()}
    found, classes = layouts.infer({name: array.shape for name, array in ours.items()}, layout)
    return Weights(plan or found, classes, ours, layout.name), layout


def _read_torch(path: Path, plan: Architecture | None) -> Weights:
    from mxnet_resnet.engines.torch import state_dict

    tensors = state_dict.load(path)
    arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    weights, layout = _by_layout(arrays, layouts.TORCH_LAYOUTS, plan)
    return replace(
        weights,
        scores=lambda images: state_dict.scores(tensors, layout, weights.plan, images),
        computed_by="PyTorch from its tensors",
    )


def _note(path: Path) -> Path:
    """Where write_gluon notes the plan of a net, which names and shapes do not tell whole."""
    return path.with_name(f"{path.stem}-architecture.json")


def _read_note(path: Path) -> Architecture:
    try:
        fields = json.loads(path.read_text())
        return Architecture(**{**fields, "dimensions": tuple(map(tuple, fields["dimensions"]))})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no note of an architecture: remove it, or name the net with --network") from error


def write_module(prefix: str, weights: Weights, image_shape: tuple[int, int, int]) -> Path:
    """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, which end in a softmax and every MXNet tool loads."""
    symbol, params = as_module(weights, image_shape)
    return checkpoint.save(prefix, 0, symbol.tojson(), *map(to_numpy, params))


def as_module(weights: Weights, image_shape: tuple[int, int, int]) -> tuple[mx.sym.Symbol, tuple[Arrays, Arrays]]:
    """A net as a graph that ends in a softmax, and its (arguments, auxiliary states)."""
    net = weights.net()
    symbol = symbols.softmax(net, image_shape=image_shape)
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {name: mx.nd.array(weights.arrays[name]) for name in net.collect_params()}
    args = {name: array for name, array in arrays.items() if name not in auxiliary}
    return symbol, (args, {name: arrays[name] for name in auxiliary})


def write_gluon(path: Path, weights: Weights) -> None:
    """Write the parameters for ``load_parameters`` of the Gluon net, and its plan to ``NAME-architecture.json``."""
    with replacing(_note(path), path) as (note, parameters):
        note.write_text(json.dumps(asdict(weights.plan), indent=1))
        weights.net().save_parameters(str(parameters))


def write_torch(path: Path, weights: Weights, layout_name: str | None = None) -> str:
    """Write a state_dict (.pth, or .safetensors) that torch-resnet or torchvision loads with ``strict=True``.

    ``layout_name`` is ``"torch-resnet"`` or ``"torchvision"`` (by default torchvision's where it has such nets).
    Returns the sentence that says which input the PyTorch net takes. Raises UserError for a net that it cannot be.
    """
    from mxnet_resnet.engines.torch import state_dict

    layout = _torch_layout(weights.plan, layout_name)
    state_dict.save(path, for_torch(weights, layout))
    return f"{layout.name}, {_input_sentence(weights)}"


def _torch_layout(plan: Architecture, name: str | None) -> layouts.Layout:
    planes = tuple(planes for _, planes in plan.dimensions)
    nameable = not plan.preact and not plan.small_images and plan.shortcut == "projection"
    nameable &= len(planes) == len(architecture.IMAGENET_PLANES) and (plan.bottleneck or plan.width == 1)
    if name == "torchvision" and not nameable:
        raise UserError(
            "torchvision has post-activation nets of four stages for large images, with projection shortcuts, and wide "
            "ones of bottlenecks"
        )
    if name == "torchvision" or (name is None and nameable and planes == architecture.IMAGENET_PLANES):
        layout = layouts.TORCHVISION
    elif not plan.preact:
        layout = layouts.TORCH_RESNET
    elif plan.small_images:
        layout = layouts.TORCH_RESNET_PREACT_SMALL
    else:
        layout = layouts.TORCH_RESNET_PREACT
    _check_torch_can(plan, layout)
    return layout


def _check_torch_can(plan: Architecture, layout: layouts.Layout) -> None:
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
    for reason, true in reasons.items():
        if true:
            raise UserError(f"{layout.name} cannot be this net, which has {reason}")


def for_torch(weights: Weights, layout: layouts.Layout) -> dict[str, np.ndarray]:
    """The arrays under the names of a PyTorch layout; the BatchNorm on the images is left out (see _input_sentence).

    PyTorch's nets have an epsilon of 1e-5: what this net's is above that is added to its running variances.
    """
    stages = len(weights.plan.dimensions) - 1
    result = {}
    for name, array in weights.arrays.items():
        layer, _, kind = name.replace("_moving_", "_moving-").rpartition("_")
        kind = kind.replace("-", "_")
        if layer == "bn_data":
            continue
        theirs = _torch_layer(layout, layer, stages)
        if kind == "moving_var":
            array = array + np.float32(weights.plan.epsilon - TORCH_EPSILON)
            result[f"{theirs}.{layouts.TORCH_COUNTER}"] = np.array(0, np.int64)
        kinds = {ours: name for name, ours in layout.norm.items()} if layouts.is_norm(layer) else layouts.WEIGHTS
        result[f"{theirs}.{kinds[kind]}"] = array
    return result


def _torch_layer(layout: layouts.Layout, layer: str, stages: int) -> str:
    match = re.fullmatch(r"stage(\d+)_unit(\d+)_(\w+)", layer)
    if match:
        return layout.unit_layer(int(match[1]), int(match[2]), match[3])
    return layout.top_layer(layer, stages)


def input_normalisation(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The (mean, std) by channel, in 0..255, that the net's BatchNorm on the images amounts to; (0, 1) without one."""
    if not weights.plan.data_norm:
        return np.zeros(3, np.float32), np.ones(3, np.float32)
    std = np.sqrt(weights.arrays["bn_data_moving_var"] + np.float32(weights.plan.epsilon))
    if weights.plan.data_norm == "full":
        std = std / weights.arrays["bn_data_gamma"]
    return weights.arrays["bn_data_moving_mean"] - weights.arrays["bn_data_beta"] * std, std


def takes_bytes(weights: Weights) -> bool:
    """Whether the net's images are 0..255, as the running mean of its BatchNorm on them tells."""
    return bool(weights.plan.data_norm) and weights.arrays["bn_data_moving_mean"].max() > LARGEST_NORMALISED_MEAN


def _input_sentence(weights: Weights) -> str:
    if not weights.plan.data_norm:
        return "for the input that the source takes"
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in input_normalisation(weights))
    images = "RGB images in 0..255" if takes_bytes(weights) else "the input that the source takes"
    return f"for {images}, less {mean}, by {std}"
