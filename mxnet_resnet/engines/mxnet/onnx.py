"""All that needs ONNX and ONNX Runtime, an optional extra: a net written by MXNet's exporter, checked and computed."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import staged
from mxnet_resnet.engines.mxnet import compat
from mxnet_resnet.use import deployment
from mxnet_resnet.use.deployment import Deployment

try:
    import onnx
    import onnxruntime
except ImportError as error:
    raise UserError("ONNX needs the packages onnx and onnxruntime: pip install onnx onnxruntime") from error

OPSET = 13  # of MXNet's converters; it writes down the newest that the installed onnx knows
IR_VERSION = 7  # of ONNX 1.8, which brought that opset: every runtime since reads the file
BATCH = "N"


def export(path: Path, net: Deployment, names: Sequence[str]) -> list[str]:
    """Write ``net`` as ONNX, of any batch size, once ONNX Runtime has computed from it what MXNet does.

    The metadata have the class ``names`` (``classes``, a JSON list) and what the images are (``images``). Returns the
    sentences of the comparison; raises NotProven, and leaves no file.
    """
    with staged(path) as (temporary,):
        _export(temporary, net)
        model = onnx.load(temporary)
        _complete(model, net, names)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temporary)
        return deployment.compare(net, _runtime(temporary))


def _export(path: Path, net: Deployment) -> None:
    compat.restore_onnx_names()
    from mxnet import onnx as exporter

    with contextlib.redirect_stdout(io.StringIO()):  # it prints hints on shapes
        exporter.export_model(
            net.symbol,
            [net.args, net.auxs],
            [(1, *net.image_shape)],
            np.float32,
            str(path),
            dynamic=True,
            dynamic_input_shapes=[(None, *net.image_shape)],
        )


def _complete(model: onnx.ModelProto, net: Deployment, names: Sequence[str]) -> None:
    """Put right what the exporter leaves: versions, parameters that are inputs too, unnamed sizes, no metadata."""
    model.opset_import[0].version = OPSET
    model.ir_version = IR_VERSION
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    _keep(graph.input, [value for value in graph.input if value.name == "data"])
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


def _runtime(path: Path):
    """The probabilities of images (N, 3, H, W) as ONNX Runtime computes them from a file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"data": images})[0]


def versions() -> str:
    """What wrote and computed a file."""
    return f"MXNet {mx.__version__}, onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}"
