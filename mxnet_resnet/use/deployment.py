"""A trained net as others run it: from images to probabilities, its normalisation inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.files import staged
from mxnet_resnet.data.transform import ImageShape
from mxnet_resnet.engines.mxnet import symbols
from mxnet_resnet.engines.mxnet.graphs import folding
from mxnet_resnet.engines.mxnet.ndarrays import Arrays, to_mxnet, to_numpy
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import proof, weights
from mxnet_resnet.use.nets import Net

LARGEST_DIFFERENCE = 1e-4  # of probabilities, or of scores by the largest score
NORM = "input_norm"
NORM_EPSILON = 1e-5


class NotProven(Exception):
    """An export that does not compute what its source does."""


@dataclass(frozen=True)
class Deployment:
    """A graph from ``data``, RGB (N, 3, H, W) in 0..255, to probabilities (N, classes), and its parameters.

    Attributes:
        symbol: the graph, which ends in ``softmax``.
        args, auxs: its parameters, float32.
        image_shape: (C, H, W) of the images that it was made for.
        classes: their number.
    """

    symbol: mx.sym.Symbol
    args: Arrays
    auxs: Arrays
    image_shape: ImageShape
    classes: int

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Those (N, classes) of images (N, 3, H, W), computed by MXNet on the CPU."""
        return self.computing()(images)

    def computing(self) -> Callable[[np.ndarray], np.ndarray]:
        """``probabilities`` for many batches: the graph is bound anew only where their shape changes."""
        bound: dict[tuple[int, ...], mx.executor.Executor] = {}

        def probabilities(images: np.ndarray) -> np.ndarray:
            if images.shape not in bound:
                bound.clear()
                bound[images.shape] = self.symbol.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
                bound[images.shape].copy_params_from(self.args, self.auxs)
            return bound[images.shape].forward(is_train=False, data=mx.nd.array(images))[0].asnumpy()

        return probabilities


def of(net: Net) -> Deployment:
    """A trained net with the normalisation of its images inside."""
    symbol = mx.sym.softmax(net.symbol, name="softmax")
    args, auxs = ({name: array.astype("float32") for name, array in arrays.items()} for arrays in net.params)
    args = folding.ones_where_fixed(symbol, args)
    made = Deployment(symbol, args, auxs, net.image_shape, net.classes)
    return made if net.takes_bytes else _normalising(made, net.mean, net.std)


def _normalising(net: Deployment, mean: np.ndarray, std: np.ndarray) -> Deployment:
    """``net`` behind a BatchNorm that takes ``mean`` off its images, and divides them by ``std``."""
    shape = ",".join(map(str, net.image_shape))
    images = mx.sym.var("data", attr={"__image_shape__": shape})
    norm = mx.sym.BatchNorm(images, fix_gamma=True, eps=NORM_EPSILON, name=NORM)
    args = {f"{NORM}_gamma": mx.nd.ones(3), f"{NORM}_beta": mx.nd.zeros(3)}
    auxs = {f"{NORM}_moving_mean": mx.nd.array(mean), f"{NORM}_moving_var": mx.nd.array(np.square(std) - NORM_EPSILON)}
    return replace(net, symbol=net.symbol(data=norm), args={**net.args, **args}, auxs={**net.auxs, **auxs})


def folded(net: Deployment) -> Deployment:
    """``net`` with its BatchNorms folded into convolutions where that is exact."""
    symbol, args, auxs = folding.fold(net.symbol, net.args, net.auxs)
    return replace(net, symbol=symbol, args=args, auxs=auxs)


def compare(net: Deployment, probabilities: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """Sentences on how far ``probabilities`` are from those of ``net``, on random images and photographs.

    Raises NotProven where a probability differs by more than LARGEST_DIFFERENCE, or the best five classes are others
    (of classes whose probabilities differ by less than that, either may be among them).
    """
    sentences = []
    for kind, images in proof.images_of(net.image_shape, True).items():
        expected, found = net.probabilities(images), probabilities(images)
        difference = float(np.abs(expected - found).max())
        best = np.sort(expected)[:, ::-1][:, :5]
        chosen = np.take_along_axis(expected, np.argsort(-found)[:, :5], axis=1)
        same = float(np.abs(best - chosen).max()) <= LARGEST_DIFFERENCE
        if not (difference <= LARGEST_DIFFERENCE and same):  # not so for NaN
            raise NotProven(f"on {kind} images a probability differs by {difference:.2e} from the checkpoint's")
        sentences.append(f"{len(images)} {kind} images: same top-5, probabilities differ by at most {difference:.2e}")
    return sentences


def write(prefix: str, net: Deployment, prove: Callable[[Deployment], list[str]]) -> list[str]:
    """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, once what was written has passed ``prove``.

    Returns what ``prove`` says of the net as it is loaded from the files; what that raises leaves no file.
    """
    with staged(Path(f"{prefix}-symbol.json"), checkpoint.params_path(prefix, 0)) as (symbol_path, _):
        staging = str(symbol_path)[: -len("-symbol.json")]
        checkpoint.save(staging, 0, net.symbol.tojson(), *map(to_numpy, (net.args, net.auxs)))
        args, auxs = map(to_mxnet, checkpoint.load_params(staging, 0))
        return prove(replace(net, symbol=symbols.load(staging), args=args, auxs=auxs))


def export_folded(prefix: str, net: Deployment) -> list[str]:
    """Write ``net`` folded, as ``write`` does; the sentences of the comparison."""
    result = folded(net)
    before, after = (folding.count(symbol, "BatchNorm") for symbol in (net.symbol, result.symbol))
    told = f"{before - after} of {before} BatchNorms folded"
    return write(prefix, result, lambda written: [told, *compare(net, written.probabilities)])


def export_torch(path: Path, net: Net, layout: str | None = None) -> list[str]:
    """Write a trained net as a state_dict (weights.write_torch) that PyTorch computes the same scores from.

    Returns sentences on what it is; raises NotProven, and leaves no file.
    """
    source = weights.of_graph(net.symbol, net.params, net.name)
    with staged(path) as (temporary,):
        sentences = [weights.write_torch(temporary, source, layout)]
        written = weights.read(str(temporary))
        for kind, images in proof.images(source).items():
            _, difference, whose = proof.difference(source, written, images)
            if not difference <= LARGEST_DIFFERENCE:  # not so for NaN
                raise NotProven(f"on {kind} images the scores differ by {difference:.2e} of the largest")
            sentences.append(
                f"{len(images)} {kind} images: largest difference {difference:.2e} of the scores ({whose})"
            )
    return sentences
