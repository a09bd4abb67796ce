"""A net in training on MXNet: a bound Module, its optimizer, and the figures of its batches."""

from __future__ import annotations

import contextlib

import mxnet as mx
import numpy as np

from mxnet_resnet.data import targets
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.engines import initial
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.mxnet import optimizer, precision, symbols
from mxnet_resnet.engines.mxnet.batches import as_data_batch
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.engines.mxnet.memory import memonger
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet, to_numpy
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.runs.meters import Figures, counts_top5

EPSILON = 1e-12  # as in MXNet's own CrossEntropy


class PendingFigures:
    """The figures of a batch that MXNet computes meanwhile (base.Pending).

    ``sums`` are of the correct ones, of those among the best five where that is counted, and of the losses; ``best`` is
    the best class of each image (N,).
    """

    def __init__(self, sums: mx.nd.NDArray, images: int, best: mx.nd.NDArray | None):
        self.updated = True
        self._sums, self._images, self._best = sums, images, best
        self._figures: Figures | None = None

    def result(self) -> Figures:
        if self._figures is None:
            correct, *top5, loss = self._sums.asnumpy().tolist()
            classes = None if self._best is None else self._best.asnumpy().astype(np.int64)
            self._figures = Figures(self._images, correct, top5[0] if top5 else None, loss, classes)
        return self._figures


class ModuleSession:
    """A net in training on a Module (base.Session), which begins with given weights or with those of the seed.

    ``module`` executes the graph, and has its parameters; the session gives it its optimizer.
    """

    in_flight = 2

    def __init__(
        self, module: mx.mod.Module, spec: TrainingSpec, group: KVStoreGroup, snapshot: Snapshot | None, step: int
    ):
        self.module, self.spec, self.group = module, spec, group
        self.scaler: precision.LossScaler | None = None
        if spec.dtype == "float16":
            self.scaler = precision.LossScaler(*(snapshot.loss_scale if snapshot and snapshot.loss_scale else ()))
        self._validated = False
        self._draws = symbols.to_graph(module.symbol).count("Dropout") > 0
        optimizer.install(module, spec, group, step)
        if snapshot:
            optimizer.write_momentum(module, snapshot.momentum)

    def read(self, records: TrainingRecords, epoch: int, skip: int) -> None:
        return None

    def read_validation(self, records: ValidationRecords) -> None:
        return None

    def step(self, batch: Batch, number: int) -> PendingFigures:
        module = self.module
        if self._draws:  # what is dropped is a function of the step, like all else that is drawn
            place = [self.spec.seed, number, self.group.rank]
            mx.random.seed(int(np.random.SeedSequence(place).generate_state(1)[0] >> 1))
        data = as_data_batch(batch, self.module._context[0])
        module.forward(data, is_train=True)
        if self._validated:
            # Inference on the CPU left the weights in a layout of oneDNN's, which this forward pass changes back behind
            # the engine's back: an update meanwhile would be rounded otherwise, now and then.
            mx.nd.waitall()
            self._validated = False
        updated = True
        if self.scaler is None:
            module.backward()
            module.update()
        else:
            updated = self._update_scaled(batch, self.scaler)
        figures = sum_up(module.get_outputs()[0], data.label[0], self.spec.classes, of_training=True)
        figures.updated = updated
        return figures

    def validate(self, batch: Batch) -> PendingFigures:
        data = as_data_batch(batch, self.module._context[0])
        self.module.forward(mx.io.DataBatch(data.data), is_train=False)
        self._validated = True
        outputs, labels = self.module.get_outputs()[0], data.label[0]
        return sum_up(outputs[: batch.count], labels[: batch.count], self.spec.classes)

    def snapshot(self) -> Snapshot:
        params, statistics = self.group.settle(self.module)
        momentum = optimizer.read_momentum(self.module)
        scale = (self.scaler.scale, self.scaler.steps) if self.scaler else None
        return Snapshot(to_numpy(params), to_numpy(statistics), momentum, scale)

    def _update_scaled(self, batch: Batch, scaler: precision.LossScaler) -> bool:
        """Go back from a scaled loss, the mean over the batch; whether the gradients were finite, and used."""
        module, spec, scale = self.module, self.spec, scaler.scale
        labels = batch.labels
        if labels.ndim == 1:
            labels = targets.distributions(labels, spec.classes, spec.label_smoothing)
        outputs = module.get_outputs()[0]
        # Of the cross-entropy behind a softmax; the probabilities take no gradient.
        of_scores = (outputs - mx.nd.array(labels, outputs.context)) * (scale / spec.batch_size)
        module.backward([mx.nd.zeros_like(outputs), of_scores])
        by_device = zip(*(arrays for arrays in module._exec_group.grad_arrays if arrays[0] is not None))
        finite = all([precision.finite(gradients) for gradients in by_device])
        if not self.group.asynchronous:  # all workers update, or none
            finite = not self.group.any_true(not finite)
        good = scaler.good(finite)
        if good:
            rescale = module._optimizer.rescale_grad
            module._optimizer.rescale_grad = rescale * spec.batch_size / scale
            module.update()
            module._optimizer.rescale_grad = rescale
        return good


def sum_up(outputs: mx.nd.NDArray, labels: mx.nd.NDArray, classes: int, of_training: bool = False) -> PendingFigures:
    """The figures of a batch: probabilities (N, classes), and labels (N,) or the distributions trained towards."""
    count = outputs.shape[0]
    outputs, labels = outputs.astype("float32"), labels.as_in_context(outputs.context)
    logarithms = (outputs + EPSILON).log()
    if labels.ndim == 2:
        losses, labels = -(labels * logarithms).sum(), labels.argmax(axis=1)
    else:
        losses = -logarithms.pick(labels).sum()
    best = outputs.argmax(axis=1)
    figures = [(best == labels).sum()]
    if counts_top5(classes):
        figures.append((outputs.topk(k=5) == labels.expand_dims(1)).sum())
    return PendingFigures(mx.nd.concat(*figures, losses, dim=0), count, None if of_training else best)


def bind(
    symbol: mx.sym.Symbol,
    spec: TrainingSpec,
    contexts: list[mx.Context],
    snapshot: Snapshot | None = None,
    plan: memonger.Plan | None = None,
) -> mx.mod.Module:
    """A module that executes a training graph on the devices, with parameters: these, or random ones from the seed."""
    if plan is not None:
        symbol = plan.apply(symbol, cudnn=contexts[0].device_type == "gpu")
    mx.random.seed(spec.seed)
    np.random.seed(spec.seed)
    shapes = input_shapes(symbol, spec, spec.batch_size)
    images, labels = [("data", shapes.pop("data"))], list(shapes.items())
    module = mx.mod.Module(symbol, context=contexts, label_names=list(shapes))
    with memonger.packing() if plan is not None else contextlib.nullcontext():
        module.bind(images, labels or None)
    if snapshot:
        module.init_params(None, to_mxnet(snapshot.params), to_mxnet(snapshot.statistics))
    else:
        _draw_parameters(module, spec)
    return module


def _draw_parameters(module: mx.mod.Module, spec: TrainingSpec) -> None:
    """Initialize a module as every engine does; where a block of one's own has other laws, MXNet draws."""
    shapes = symbols.parameter_shapes(module.symbol, (1, *spec.image_shape))
    drawn = initial.draw(symbols.to_graph(module.symbol), shapes, spec.seed)
    xavier = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    module.init_params(xavier, *map(to_mxnet, drawn), allow_missing=True)


def input_shapes(symbol: mx.sym.Symbol, spec: TrainingSpec, images: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a batch, by the inputs of a graph."""
    label = (images, spec.classes) if spec.soft_labels else (images,)
    shapes = {"data": (images, *spec.image_shape), "softmax_label": label}
    return {name: shape for name, shape in shapes.items() if name in symbol.list_arguments()}
