"""ONNX Runtime on our own export."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnxruntime

from benchmarks.ours import a_batch, describe_run, random_net
from benchmarks.way import CORES, Step
from mxnet_resnet.engines.mxnet import onnx


def prediction(depth: int, images: int, kind: str) -> Step:
    """Probabilities of one batch, by a net of random weights."""
    net = random_net(depth)
    with tempfile.TemporaryDirectory() as folder:
        onnx.write(Path(folder, "net.onnx"), net, [str(label) for label in range(net.classes)])
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = CORES
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", settings, providers=["CPUExecutionProvider"])
    batch = {session.get_inputs()[0].name: a_batch(describe_run(depth, images)).images}
    return lambda: session.run(None, batch)
