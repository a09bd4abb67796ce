"""All that needs ONNX and ONNX Runtime, an optional extra: a net written by MXNet's exporter, checked and computed."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import compat, symbols
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs.graph import IMAGES

try:
    import onnx
    import onnxruntime
except ImportError as error:
    raise UserError("ONNX needs the packages onnx and onnxruntime: pip install onnx onnxruntime") from error

OPSET = 13  # of MXNet's converters; it writes down the newest that the installed onnx knows
IR_VERSION = 7  # of ONNX 1.8, which brought that opset: every runtime since reads the file
BATCH = "N"


def write(path: Path, net: TrainedNet, names: Sequence[str]) -> None:
    """Write a deployed net as ONNX, from images to probabilities, of any batch size.

    The metadata have the class ``names`` (``classes``, a JSON list) and what the images are (``images``).
    """
    _convert(path, net)
    model = onnx.load(path)
    _complete(model, net, names)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def open_runtime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """ONNX Runtime with a file: the probabilities (N, classes) of images (N, 3, H, W)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {IMAGES: images})[0]


def versions() -> str:
    """What wrote and computed a file."""
    return f"MXNet {mx.__version__}, onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}"


def _convert(path: Path, net: TrainedNet) -> None:
    compat.restore_onnx_names()
    from mxnet import onnx as exporter

    with contextlib.redirect_stdout(io.StringIO()):  # it prints hints on shapes
        exporter.export_model(
            symbols.from_graph(net.graph.with_activation(net.activation)),
            [to_mxnet(net.params), to_mxnet(net.statistics)],
            [(1, *net.image_shape)],
            np.float32,
            str(path),
            dynamic=True,
            dynamic_input_shapes=[(None, *net.image_shape)],
        )


def _complete(model: onnx.ModelProto, net: TrainedNet, names: Sequence[str]) -> None:
    """Put right what the exporter leaves: versions, parameters that are inputs too, unnamed sizes, no metadata."""
    model.opset_import[0].version = OPSET
    model.ir_version = IR_VERSION
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    _keep(graph.input, [value for value in graph.input if value.name == IMAGES])
    (output,) = graph.output
    for value, shape in ((graph.input[0], net.image_shape), (output, (net.classes,))):
        described = onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, (BATCH, *shape))
        value.CopyFrom(described)
    _, height, width = net.image_shape
    images = f"RGB, in 0..255, float32, (N, 3, {height}, {width})"
    onnx.helper.set_model_props(model, {"classes": json.dumps(list(names), ensure_ascii=False), "images": images})


def _keep(field, kept: list) -> None:
    del field[:]
    field.extend(kept)
