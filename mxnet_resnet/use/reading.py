"""Trained nets from files: checkpoints of MXNet's Module, parameters of Gluon, state_dicts of PyTorch. One way in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Union

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.engines.graphs import images, outputs, recognition
from mxnet_resnet.engines.net import IMAGENET_MEAN, IMAGENET_STD, TrainedNet, require_plan
from mxnet_resnet.plans import layouts
from mxnet_resnet.plans.architecture import Architecture
from mxnet_resnet.plans.checks import check_plan
from mxnet_resnet.runs import checkpoint, params
from mxnet_resnet.runs.checkpoint import Arrays
from mxnet_resnet.runs.graph import STATISTICS
from mxnet_resnet.use import graphs

TORCH, GLUON = "torch", "gluon"
TORCH_SUFFIXES = (".th", ".pth", ".pt", ".bin", ".safetensors")
MODULE_CHECKPOINT = re.compile(r"(.+)-(\d{4,})\.params")
LARGEST_NOTE = 1 << 16  # letters of a note of an architecture
SMALL_SHAPE, LARGE_SHAPE = (3, 32, 32), (3, 224, 224)

Epoch = Union[int, str, None]  # "best" or "latest"; None is the last one


@dataclass(frozen=True)
class Given:
    """What a user says of a net, which wins over what its files tell.

    Attributes:
        image_shape: (C, H, W) of its input.
        mean, std: of its images, RGB in 0..1.
        plan: its architecture.
        output: of its graph, the operator that gives its scores.
    """

    image_shape: ImageShape | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    plan: Architecture | None = None
    output: str | None = None


NOTHING_GIVEN = Given()


def read_checkpoint(prefix: str, epoch: Epoch = None, given: Given = NOTHING_GIVEN) -> TrainedNet:
    """A Module checkpoint as it stands, with its graph up to the scores and the names in it; any net will do.

    Whether its arrays fit its graph, and how many classes that tells apart, is seen by the engine that adopts it.
    Raises UserError where its files are missing or damaged, or it is not known which of its outputs are scores.
    """
    graph = checkpoint.load_graph(prefix)
    if epoch is None:
        latest = checkpoint.find_latest(prefix)
        name = latest.stem.removeprefix(f"{Path(prefix).name}-")
        epoch, (params, statistics) = int(name) if name.isdecimal() else name, checkpoint.read_params(latest)
    elif isinstance(epoch, str):
        params, statistics = checkpoint.load_named(prefix, epoch)
    else:
        params, statistics = checkpoint.load_params(prefix, epoch)
    scores, head, notes = outputs.choose(graph, given.output)
    others = {*graph.variables} - {*scores.variables}  # what other outputs need
    params, statistics = (
        {name: array for name, array in arrays.items() if name not in others} for arrays in (params, statistics)
    )
    shape = given.image_shape or graph.noted_image_shape()
    if shape is None:
        shape = SMALL_SHAPE if graph.first_stride() == 1 else LARGE_SHAPE
        notes.append(f"assuming an input of {shape}: --image-shape says otherwise")
    net = TrainedNet(f"{prefix}, epoch {epoch}", params, statistics, shape, None, scores, notes=tuple(notes))
    net = replace(net, activation=head.activation, output="" if head.activation else head.describe())
    return _with_normalisation(net, images.infer_range(scores, net.arrays), given)


def read_known(source: str, epoch: Epoch = None, given: Given = NOTHING_GIVEN) -> TrainedNet:
    """A ResNet of any kind of file, with its plan, and its arrays in float32 by our names.

    ``source`` is the prefix of a Module checkpoint (with ``epoch``) or one of its files, a Gluon .params file, or a
    PyTorch file, of any ending. Whether its arrays fit the plan is seen where it is computed.

    Raises UserError where it is none of these, damaged, none of the ResNets known here, or not of the plan given.
    """
    place = _module_of(source, epoch)
    if place is None:
        return _read_parameters(Path(source), given)
    found = read_checkpoint(*place, given)
    return recognise(replace(found, name=str(checkpoint.graph_path(place[0]))), given.plan)


def recognise(net: TrainedNet, plan: Architecture | None = None) -> TrainedNet:
    """A net with its plan, and its arrays in float32 by our names; its own graph, by MXNet, stays its scores.

    ``plan`` is taken in place of those that names and shapes can tell. Raises UserError for none of the nets known
    here.
    """
    if net.plan is not None:
        return net
    found = recognition.recognise(net, plan, graphs.make_graph)
    return replace(found, scores=partial(graphs.compute_scores, net), computed_by="MXNet from its graph")


def input_normalisation(net: TrainedNet) -> tuple[np.ndarray, np.ndarray]:
    """The (mean, std) by channel, in 0..255, that the BatchNorm on the images of a net with a plan amounts to.

    (0, 1) without one.
    """
    plan, arrays = require_plan(net), net.arrays
    if not plan.data_norm:
        return np.zeros(3, np.float32), np.ones(3, np.float32)
    std = np.sqrt(arrays["bn_data_moving_var"] + np.float32(plan.epsilon))
    if plan.data_norm == "full":
        std = std / arrays["bn_data_gamma"]
    return arrays["bn_data_moving_mean"] - arrays["bn_data_beta"] * std, std


def note_path(path: Path) -> Path:
    """Where the plan of a net is noted beside its Gluon parameters, whose names and shapes do not tell it whole."""
    return path.with_name(f"{path.stem}-architecture.json")


def find_kind(path: Path) -> str | None:
    """TORCH or GLUON: whose file of parameters alone it is, by its first bytes, or else its ending; None for neither.

    Training scripts call theirs ``.pth.tar``, ``.ckpt``, or anything.
    """
    begin = b""
    if path.is_file():
        with sources.open_file(path, "") as file:
            begin = file.read(10)
    if begin.startswith((b"PK\x03\x04", b"\x80")) or begin[8:] == b'{"':
        return TORCH
    if begin.startswith(params.FILE_MAGIC.to_bytes(8, "little")):
        return GLUON
    return TORCH if path.suffix in TORCH_SUFFIXES else GLUON if path.suffix == ".params" else None


def _module_of(source: str, epoch: Epoch) -> tuple[str, Epoch] | None:
    """The prefix and the epoch of a Module checkpoint, or None where ``source`` is a file of parameters alone."""
    match = MODULE_CHECKPOINT.fullmatch(source)
    if find_kind(Path(source)) and not (match and checkpoint.graph_path(match[1]).is_file()):
        if epoch is not None:
            raise UserError(f"{source} is one file, which has no epoch {epoch}")
        return None
    if source.endswith(checkpoint.GRAPH_ENDING):
        return source.removesuffix(checkpoint.GRAPH_ENDING), epoch
    return (match[1], int(match[2])) if match else (source, epoch)


def _with_normalisation(net: TrainedNet, largest: float | None, given: Given) -> TrainedNet:
    """``net`` with what its images are less, and by what.

    ``largest`` is what `images.infer_range` tells of them; for images in 0..1 that is likely, and what is given wins.
    Where nobody says so it is ImageNet's, and a note.
    """
    told = given.mean is not None or given.std is not None
    mean, std = (255 * np.array(values, np.float32) for values in (given.mean or (0, 0, 0), given.std or (1, 1, 1)))
    as_told = replace(net, mean=mean, std=std)
    if largest == images.BYTES:
        if told and not as_told.takes_bytes:
            raise UserError("the net normalises its images itself: leave out --mean and --std")
        return net
    if told:
        return as_told
    if largest == images.UNIT:
        note = "taking RGB images in 0..1, as the first layers of the net tell: --mean and --std say otherwise"
        return replace(as_told, std=np.full(3, 255, np.float32), notes=(*net.notes, note))
    note = (
        "it is not known how the net takes its images: assuming images normalised as for ImageNet; "
        "--mean and --std say otherwise"
    )
    return replace(net, mean=IMAGENET_MEAN, std=IMAGENET_STD, notes=(*net.notes, note))


def _read_parameters(path: Path, given: Given) -> TrainedNet:
    if given.output:
        raise UserError(f"--output is of a graph, which {path}, parameters alone, has not")
    net = _read_torch(path, given) if find_kind(path) == TORCH else _read_gluon(path, given)
    mean, variance = (net.statistics.get(f"bn_data_{name}") for name in STATISTICS)
    largest = None
    if require_plan(net).data_norm and mean is not None and variance is not None:
        largest = images.infer_range_of_norm(mean, variance)
    return _with_normalisation(net, largest, given)


def _read_gluon(path: Path, given: Given) -> TrainedNet:
    loaded = checkpoint.load_arrays(path)
    kinds = (checkpoint.PARAMETER, checkpoint.STATISTIC)
    names = {name: name.partition(":")[2] if name.startswith(kinds) else name for name in loaded}
    arrays = {names[name]: array.astype(np.float32) for name, array in loaded.items()}
    note = note_path(path)
    if given.plan is None and note.is_file():
        given = replace(given, plan=_read_note(note))
    if "conv0_weight" in arrays:
        found, classes = layouts.infer({name: array.shape for name, array in arrays.items()})
        origin = "parameters of this project or the MXNet ResNet-v2 repository"
        return _as_net(path, arrays, (given.plan or found, classes, origin), given)
    known = (*layouts.GLUON_LAYOUTS, *layouts.OUR_GLUON_LAYOUTS)
    return _by_layout(path, arrays, known, given)[0]


def _read_torch(path: Path, given: Given) -> TrainedNet:
    from mxnet_resnet.engines.torch import nets, state_dict

    arrays, noted = state_dict.load(path)
    checkpoint.check_finite(path, arrays)
    known = layouts.TORCH_LAYOUTS
    if noted:
        plan = _parse_plan(path, noted)
        known = (layouts.find_own_torch(plan.preact, plan.preact and plan.small_images and not plan.stem_norm),)
        given = replace(given, plan=given.plan or plan)
    net, layout = _by_layout(path, arrays, known, given)
    scores = partial(nets.compute_scores, arrays, layout, require_plan(net))
    return replace(net, scores=scores, computed_by="PyTorch from its tensors")


def _by_layout(
    path: Path, arrays: Mapping[str, np.ndarray], known: Sequence[layouts.Layout], given: Given
) -> tuple[TrainedNet, layouts.Layout]:
    layout, names = layouts.recognise({name: array.shape for name, array in arrays.items()}, known)
    ours = {mine: np.asarray(arrays[theirs], np.float32) for mine, theirs in names.items()}
    found, classes = layouts.infer({name: array.shape for name, array in ours.items()}, layout)
    return _as_net(path, ours, (given.plan or found, classes, layout.name), given), layout


def _as_net(path: Path, arrays: Arrays, known: tuple[Architecture, int | None, str], given: Given) -> TrainedNet:
    """A net of arrays by our names, of its (plan, classes, origin)."""
    plan, classes, origin = known
    statistics = {name: array for name, array in arrays.items() if name.endswith(STATISTICS)}
    params = {name: array for name, array in arrays.items() if name not in statistics}
    shape = given.image_shape or (SMALL_SHAPE if plan.small_images else LARGE_SHAPE)
    net = TrainedNet(str(path), params, statistics, shape, classes, plan=plan, origin=origin)
    return net if classes else replace(net, activation=None, output="pooled features, for want of a classifier")


def _read_note(path: Path) -> Architecture:
    data = sources.read(path, "")
    try:
        return _parse_plan(path, data.decode())
    except ValueError as error:
        raise UserError(f"{path} is no note of an architecture: remove it, or name the net with --network") from error


def _parse_plan(path: Path, text: str) -> Architecture:
    try:
        if len(text) > LARGEST_NOTE:
            raise ValueError("it is too long")
        fields = json.loads(text)
        plan = Architecture(**{**fields, "dimensions": tuple(map(tuple, fields["dimensions"]))})
        check_plan(plan, None)
        return plan
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} has no architecture that is known here: name the net with --network") from error
