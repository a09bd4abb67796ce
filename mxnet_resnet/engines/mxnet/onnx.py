"""All that needs ONNX and ONNX Runtime, an optional extra: a net written by MXNet's exporter, checked and computed."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.graphs.rewriting import Rewriting
from mxnet_resnet.engines.mxnet import compat, nets, symbols
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs.graph import IMAGES, SOFTMAX, Graph

try:
    import onnx
    import onnxruntime
except ImportError as error:
    raise UserError("ONNX needs the packages onnx and onnxruntime: pip install onnx onnxruntime") from error

OPSET = 13  # of MXNet's converters; it writes down the newest that the installed onnx knows
IR_VERSION = 7  # of ONNX 1.8, which brought that opset: every runtime since reads the file
BATCH = "N"
# Where nothing is said, or in other words, the exporter takes some of these for what they are not.
SWITCHES = {
    *("no_bias", "flatten", "global_pool", "count_include_pad", "keepdims", "squeeze_axis", "exclude"),
    *("transpose_a", "transpose_b", "fix_gamma", "use_global_stats"),
}
WORDS = {"true": "True", "1": "True", "false": "False", "0": "False"}
DEFAULTS = {"FullyConnected": {"flatten": "True"}}


def write(path: Path, net: TrainedNet, names: Sequence[str]) -> None:
    """Write a deployed net as ONNX, from images to probabilities where it classifies, of any batch size.

    The metadata have the class ``names`` (``classes``, a JSON list), where there are any, and what the images are
    (``images``). Raises UserError for a net that MXNet's exporter has no ONNX for.
    """
    try:
        _convert(path, net)
        model = onnx.load(path)
        _shape_slopes(model)
        _complete(model, net, names)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the exporter and the checker raise any kind
        raise UserError(f"MXNet's exporter cannot write {net.name} as ONNX: {_say(error)}") from error
    onnx.save(model, path)


class Runtime:
    """ONNX Runtime with a file that was written here, of a net with that activation."""

    def __init__(self, path: Path, activation: str | None):
        model = onnx.load(path)
        given = model.graph.output[0].name
        last = next(node for node in model.graph.node if given in node.output)
        self._scores = last.input[0] if activation else given
        if activation:
            scores = onnx.helper.make_tensor_value_info(self._scores, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(scores)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it says of an error is in the exception
        self._given = given
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has classes of exceptions of its own
            raise UserError(f"ONNX Runtime cannot load what MXNet's exporter wrote: {_say(error)}") from error

    def compute(self, images: np.ndarray) -> np.ndarray:
        """What the file gives of images (N, 3, H, W): probabilities (N, classes)."""
        return self._run(self._given, images)

    def compute_scores(self, images: np.ndarray) -> np.ndarray:
        """The scores (N, classes) before the activation."""
        return self._run(self._scores, images)

    def _run(self, output: str, images: np.ndarray) -> np.ndarray:
        try:
            return self._session.run([output], {IMAGES: images})[0]
        except Exception as error:
            raise UserError(f"ONNX Runtime cannot compute what MXNet's exporter wrote: {_say(error)}") from error


def open_runtime(path: Path, activation: str | None = SOFTMAX) -> Runtime:
    """ONNX Runtime with a file of a net with that activation. Raises UserError where it cannot load it."""
    return Runtime(path, activation)


def versions() -> str:
    """What wrote and computed a file."""
    return f"MXNet {mx.__version__}, onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}"


def _convert(path: Path, net: TrainedNet) -> None:
    compat.restore_onnx_names()
    from mxnet import onnx as exporter

    # It prints hints on shapes, and checks by the newest opset what is of an older one; all is checked afterwards.
    with contextlib.redirect_stdout(io.StringIO()), _without_check():
        exporter.export_model(
            symbols.from_graph(_spell_out(_divide_by_norms(net.graph.with_activation(net.activation)))),
            [to_mxnet(net.params), to_mxnet(net.statistics)],
            [(1, *net.image_shape)],
            np.float32,
            str(path),
            dynamic=True,
            dynamic_input_shapes=[(None, *net.image_shape)],
        )


@contextlib.contextmanager
def _without_check() -> Iterator[None]:
    check = onnx.checker.check_graph
    onnx.checker.check_graph = lambda *_: None
    try:
        yield
    finally:
        onnx.checker.check_graph = check


def _spell_out(graph: Graph) -> Graph:
    """A graph with the settings that the exporter would misread in full, in the words that it knows."""
    nodes = []
    for node in graph.nodes:
        attrs = {**DEFAULTS.get(node.op, {}), **node.attrs}
        worded = {name: WORDS.get(text.lower(), text) if name in SWITCHES else text for name, text in attrs.items()}
        nodes.append(replace(node, attrs=worded))
    return replace(graph, nodes=tuple(nodes))


def _divide_by_norms(graph: Graph) -> Graph:
    """A graph whose vectors (N, C) are made unit vectors by what the exporter knows; of maps the proof tells."""
    copy = Rewriting(graph)
    for index, node in enumerate(graph.nodes):
        if node.op == "L2Normalization" and node.setting("mode", "instance") == "instance":
            vectors = copy.inputs(index)
            norm = copy.add("norm", f"{node.name}_norm", vectors, {"ord": 2, "axis": (1,), "keepdims": True})
            copy.replace(index, "broadcast_div", [*vectors, norm], {})
        else:
            copy.keep(index)
    return copy.graph()


def _shape_slopes(model: onnx.ModelProto) -> None:
    """Give slopes by channel of PReLUs on (N, C, H, W) the shape (C, 1, 1), without which they count from the right."""
    model.opset_import[0].version = OPSET
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*inferred.value_info, *inferred.input)}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        slope = tensors.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is not None and len(slope.dims) == 1:
            slope.dims.extend([1] * (ranks.get(node.input[0], 4) - 2))


def _say(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _complete(model: onnx.ModelProto, net: TrainedNet, names: Sequence[str]) -> None:
    """Put right what the exporter leaves: versions, parameters that are inputs too, unnamed sizes, no metadata."""
    model.opset_import[0].version = OPSET
    model.ir_version = IR_VERSION
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    _keep(graph.input, [value for value in graph.input if value.name == IMAGES])
    (output,) = graph.output
    _, (_, *given) = nets.infer(net)
    for value, shape in ((graph.input[0], net.image_shape), (output, given)):
        described = onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, (BATCH, *shape))
        value.CopyFrom(described)
    _, height, width = net.image_shape
    images = f"RGB, in 0..255, float32, (N, 3, {height}, {width})"
    classes = {"classes": json.dumps(list(names), ensure_ascii=False)} if net.activation else {}
    onnx.helper.set_model_props(model, {**classes, "images": images})


def _keep(field, kept: list) -> None:
    del field[:]
    field.extend(kept)
