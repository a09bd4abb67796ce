"""Trained nets, wherever they come from: their scores as a graph, their parameters, and the images that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.engines.mxnet import symbols
from mxnet_resnet.engines.mxnet.graphs.match import first_input, first_stride, without_softmax
from mxnet_resnet.engines.mxnet.ndarrays import Arrays, to_mxnet
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import proof, weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1, as by torchvision


@dataclass(frozen=True)
class Net:
    """A trained net.

    Attributes:
        name: what to call it.
        symbol: from ``data`` (N, C, H, W) to scores (N, classes), before the softmax.
        params: its (arguments, auxiliary states).
        image_shape: (C, H, W) of its input.
        mean, std: by channel, in 0..255: its input is an RGB image in 0..255, less the mean, by the deviation.
        notes: sentences on what is assumed of it.
    """

    name: str
    symbol: mx.sym.Symbol
    params: tuple[Arrays, Arrays] = field(repr=False)
    image_shape: ImageShape
    mean: np.ndarray
    std: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of its classes."""
        _, output_shapes, _ = self.symbol.infer_shape(data=(1, *self.image_shape))
        return output_shapes[0][1]

    @property
    def takes_bytes(self) -> bool:
        """Whether it normalises its images itself."""
        return not self.mean.any() and (self.std == 1).all()


def load(
    prefix: str,
    epoch: int | str,
    image_shape: ImageShape | None = None,
    normalisation: tuple[Sequence[float] | None, Sequence[float] | None] = (None, None),
) -> Net:
    """The net of ``PREFIX-symbol.json`` after ``epoch`` epochs, or at the ``"best"`` or ``"latest"`` checkpoint.

    ``image_shape`` (C, H, W) and ``normalisation``, a (mean, std) of RGB in 0..1, win over what the checkpoint tells.
    Raises UserError where its files are missing, damaged or do not fit each other.
    """
    graph = symbols.load(prefix)
    found = checkpoint.load_named(prefix, epoch) if isinstance(epoch, str) else checkpoint.load_params(prefix, epoch)
    return _net(f"{prefix}, epoch {epoch}", graph, tuple(map(to_mxnet, found)), image_shape, normalisation)


def load_file(
    path: str,
    network: str | None = None,
    image_shape: ImageShape | None = None,
    normalisation: tuple[Sequence[float] | None, Sequence[float] | None] = (None, None),
) -> Net:
    """The net of a file of parameters alone, as tools/convert.py reads them; ``network`` names it where they do not.

    Raises UserError as ``load`` does.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no file of parameters {path}")
    read = weights.read(path, plan=architecture.find(network) if network else None)
    if read.classes is None:
        raise UserError(f"{path} is a net without a classifier")
    graph, params = weights.as_module(read, proof.image_shape(read))
    return _net(path, graph, params, image_shape, normalisation)


def _net(
    name: str,
    graph: mx.sym.Symbol,
    params: tuple[Arrays, Arrays],
    image_shape: ImageShape | None,
    normalisation: tuple[Sequence[float] | None, Sequence[float] | None],
) -> Net:
    symbol, notes = without_softmax(graph), []
    shape = image_shape or symbols.noted_image_shape(graph)
    if shape is None:
        shape = (3, 32, 32) if first_stride(graph) == 1 else (3, 224, 224)
        notes.append(f"assuming an input of {shape}: --image-shape says otherwise")
    try:
        checkpoint.check_fit(symbols.parameter_shapes(symbol, (1, *shape)), *params)
    except mx.base.MXNetError as error:
        raise UserError(f"the net does not take images of {shape}: --image-shape says which it takes") from error
    if _takes_bytes(graph, params):
        if normalisation != (None, None):
            raise UserError("the net normalises its images itself: leave out --mean and --std")
        return Net(name, symbol, params, shape, np.zeros(3, np.float32), np.ones(3, np.float32), tuple(notes))
    if normalisation == (None, None):
        normalisation = IMAGENET_MEAN, IMAGENET_STD
        notes.append("assuming images normalised as for ImageNet, as the net does not do so: --mean and --std differ")
    mean, std = normalisation
    mean, std = (255 * np.array(values, np.float32) for values in (mean or (0, 0, 0), std or (1, 1, 1)))
    return Net(name, symbol, params, shape, mean, std, tuple(notes))


def _takes_bytes(graph: mx.sym.Symbol, params: tuple[Arrays, Arrays]) -> bool:
    """Whether the images are RGB in 0..255, as the running mean of a BatchNorm on them tells."""
    operator, inputs = first_input(graph)
    if operator != "BatchNorm":
        return False
    return float(params[1][inputs[3]].max().asscalar()) > weights.LARGEST_NORMALISED_MEAN
