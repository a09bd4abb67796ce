"""A checkpoint that classifies images."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from mxnet_resnet import checkpoint
from mxnet_resnet.errors import UserError
from mxnet_resnet.graphs import first_stride, without_softmax
from mxnet_resnet.preprocess import ImageShape, as_input
from mxnet_resnet.symbols import noted_image_shape


class Classifier:
    """The net of ``PREFIX-symbol.json`` with the parameters after ``epoch`` epochs, on one device.

    ``image_shape`` is the (C, H, W) of the net's input: what the training noted in the graph; where nothing is noted
    (``shape_is_assumed``), 32x32 or 224x224 by the stride of its first convolution. A graph of bare scores gets a
    softmax. Raises UserError where the files are missing, damaged or do not fit each other.
    """

    def __init__(self, prefix: str, epoch: int, context: mx.Context, image_shape: ImageShape | None = None):
        graph = checkpoint.load_symbol(prefix)
        symbol = mx.sym.softmax(without_softmax(graph))
        known = image_shape or noted_image_shape(graph)
        self.shape_is_assumed = known is None
        self.image_shape = known or ((3, 32, 32) if first_stride(graph) == 1 else (3, 224, 224))
        self._params = checkpoint.load_params(prefix, epoch)
        checkpoint.check_fit(symbol, (1, *self.image_shape), *self._params)
        self._symbol, self._context = symbol, context
        _, output_shapes, _ = symbol.infer_shape(data=(1, *self.image_shape))
        self.num_classes = output_shapes[0][1]

    def probabilities(self, images: list[np.ndarray]) -> np.ndarray:
        """The class probabilities (N, classes) of RGB images (H, W, 3), uint8, of any size."""
        batch = as_input(images, self.image_shape)
        executor = self._symbol.simple_bind(self._context, grad_req="null", data=batch.shape)
        executor.copy_params_from(*self._params)
        return executor.forward(is_train=False, data=mx.nd.array(batch))[0].asnumpy()


def read_synset(path: str, num_classes: int) -> list[str]:
    """The class names of a synset file, a line a class. Raises UserError unless there are ``num_classes``."""
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read class names from {path}: {error}") from error
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, and the net has {num_classes}")
    return names
