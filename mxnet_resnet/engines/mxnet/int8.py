"""Convolutions and dense layers in int8 for the CPU, by MXNet's own quantization, and what it costs in error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.contrib.quantization import quantize_model

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.data.reader import ValidationRecords
from mxnet_resnet.engines.mxnet.ndarrays import Arrays
from mxnet_resnet.use import deployment
from mxnet_resnet.use.deployment import Deployment, NotProven

BACKEND = "MKLDNN_QUANTIZE"
BATCH = 50
# With one range for all channels of a weight, MXNet 1.9.1 writes graphs that it cannot bind again.
GRANULARITY = "channel-wise"


@dataclass(frozen=True)
class Sample:
    """Records spread evenly over a file: every ``step``-th one from ``first`` on, at most ``count``.

    Attributes:
        path: the .rec file.
        summary: of ``recordio.scan`` of it.
    """

    path: Path
    summary: recordio.Summary
    first: int
    step: int
    count: int

    def batches(self, net: Deployment) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images (N, 3, H, W) in 0..255 and labels (N,). Raises UserError for an image that does not decode."""
        left = self.count
        every = {"part": self.first, "num_parts": self.step}
        for batch in ValidationRecords(self.path, self.summary, net.image_shape, BATCH, **every).read():
            number = min(left, batch.count)
            yield batch.images[:number], batch.labels[:number]
            left -= number
            if not left:
                return


def samples(net: Deployment, images: int, calibration: str, check: str | None = None) -> tuple[Sample, Sample]:
    """At most ``images`` records to calibrate on and as many to measure the error on, of a .rec each.

    Without ``check`` both are of ``calibration``, without a record in common. Raises UserError where a file is damaged
    or too small, or labelled with classes that the net has not.
    """
    if check is not None:
        return _sample(net, images, calibration), _sample(net, images, check)
    whole = _sample(net, 2 * images, calibration)
    if whole.count < 2:
        raise UserError(f"{calibration} holds one record: int8 needs others to measure the error on")
    step, count = max(2, whole.summary.count // images), whole.count // 2
    return replace(whole, step=step, count=count), replace(whole, first=1, step=step, count=count)


def _sample(net: Deployment, images: int, path: str) -> Sample:
    summary = recordio.scan(Path(path))
    recordio.check_labels(Path(path), summary, net.classes)
    return Sample(Path(path), summary, 0, max(1, summary.count // images), min(images, summary.count))


def quantize(net: Deployment, sample: Sample, mode: str = "naive") -> Deployment:
    """``net`` folded, its convolutions and dense layers in int8, with the ranges that ``sample`` tells.

    ``mode`` is ``"naive"``, the smallest and largest values, or ``"entropy"``, ranges that lose the least information.
    """
    folded = deployment.folded(net)
    images = np.concatenate([images for images, _ in sample.batches(net)])
    symbol, args, auxs = in_int8(folded, images, mode)
    return replace(folded, symbol=symbol, args=args, auxs=auxs)


def in_int8(folded: Deployment, images: np.ndarray, mode: str) -> tuple[mx.sym.Symbol, Arrays, Arrays]:
    """The graph and parameters of a folded net in int8, calibrated on images (N, 3, H, W) as it takes them."""
    symbol, args, auxs = quantize_model(
        folded.symbol.get_backend_symbol(BACKEND),
        folded.args,
        folded.auxs,
        label_names=None,
        calib_mode=mode,
        calib_data=mx.io.NDArrayIter(images, batch_size=min(BATCH, len(images))),
        quantized_dtype="auto",
        quantize_mode="smart",
        quantize_granularity=GRANULARITY,
    )
    return symbol.get_backend_symbol(BACKEND), args, auxs


def error(net: Deployment, sample: Sample) -> float:
    """The top-1 error of ``net`` on a sample, in percent."""
    wrong = sum(
        int((net.probabilities(images).argmax(axis=1) != labels).sum()) for images, labels in sample.batches(net)
    )
    return 100 * wrong / sample.count


def export(prefix: str, net: Deployment, calibration: Sample, check: Sample, mode: str, most: float) -> list[str]:
    """Write ``net`` in int8 as a checkpoint, where its error on ``check`` is at most ``most`` percent higher.

    Returns sentences; raises NotProven, and leaves no file.
    """
    before = error(net, check)

    def prove(written: Deployment) -> list[str]:
        after = error(written, check)
        told = f"top-1 error on {check.count} images {before:.2f}% before and {after:.2f}% after"
        if after > before + most:
            raise NotProven(f"{told} int8: try more --images, or the other --calib-mode")
        return [f"calibrated on {calibration.count} images of {calibration.path}", told]

    return deployment.write(prefix, quantize(net, calibration, mode), prove)
