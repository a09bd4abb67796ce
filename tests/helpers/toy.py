"""An engine in NumPy, for the contract's sake: softmax regression on the pixels, with momentum."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.targets import distributions
from mxnet_resnet.engines.base import Devices
from mxnet_resnet.runs.checkpoint import Snapshot
from mxnet_resnet.runs.meters import Figures

GRAPH = '{"nodes": [{"op": "null", "name": "data", "inputs": []}], "arg_nodes": [0], "heads": [[0, 0, 0]]}'


class Alone:
    rank, count, local_rank, local_count, alone, store = 0, 1, 0, 1, True, "local"

    def add_up(self, values):
        return list(values)

    def all_same(self, text):
        return True

    def should_stop(self, told):
        return told


class Known:
    updated = True

    def __init__(self, figures):
        self.figures = figures

    def result(self):
        return self.figures


class Late:
    """Figures that are not to be read before the step is launched."""

    updated = True

    def __init__(self):
        self.figures = None

    def result(self):
        assert self.figures is not None, "the step was not launched"
        return self.figures


class ToySession:
    in_flight = 2
    noted = None  # steps to be launched, once it is united with others

    def __init__(self, model, snapshot):
        self.spec = model.spec
        weight = np.random.default_rng(model.spec.seed).normal(0, 0.01, model.shapes["fc1_weight"])
        self.weight = snapshot.params["fc1_weight"] if snapshot else weight.astype(np.float32)
        self.momentum = snapshot.momentum["momentum:fc1_weight"] if snapshot else np.zeros_like(self.weight)

    def read(self, records, epoch, skip):
        return None

    def read_validation(self, records):
        return None

    def step(self, batch, number):
        if self.noted is None:
            return self.compute(batch, number)
        self.noted.append((batch, number, late := Late()))
        return late

    def launch(self):
        assert len(self.noted) <= 1
        for batch, number, late in self.noted:
            late.figures = self.compute(batch, number).figures
        self.noted.clear()

    def compute(self, batch, number):
        shares = distributions(batch.labels, self.spec.classes, 0) if batch.labels.ndim == 1 else batch.labels
        inputs, outputs = self.forward(batch.images)
        gradient = (outputs - shares).T @ inputs / len(inputs)
        self.momentum = self.spec.momentum * self.momentum - np.float32(self.spec.schedule(number)) * gradient
        self.weight = self.weight + self.momentum
        return self.measure(outputs, batch.labels)

    def validate(self, batch):
        assert not self.noted
        _, outputs = self.forward(batch.images[: batch.count])
        return self.measure(outputs, batch.labels[: batch.count])

    def snapshot(self):
        return Snapshot({"fc1_weight": self.weight}, {}, {"momentum:fc1_weight": self.momentum})

    def forward(self, images):
        inputs = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
        scores = inputs @ self.weight.T
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return inputs, exponentials / exponentials.sum(axis=1, keepdims=True)

    def measure(self, outputs, labels):
        labels = labels if labels.ndim == 1 else labels.argmax(axis=1)
        best, labels = outputs.argmax(axis=1), labels.astype(int)
        losses = -np.log(outputs[np.arange(len(labels)), labels] + 1e-12)
        return Known(Figures(len(labels), float((best == labels).sum()), None, float(losses.sum()), best))


class ToyModel:
    graph, traits = GRAPH, {}

    def __init__(self, spec):
        self.spec = spec
        self.shapes = {"fc1_weight": (spec.classes, int(np.prod(spec.image_shape)))}
        self.parameters = int(np.prod(self.shapes["fc1_weight"]))

    def prepare(self):
        return []

    def start(self, group, snapshot, step):
        return ToySession(self, snapshot)


class ToyEngine:
    """``together``: several nets are trained at once."""

    name, version, reason, readers = "toy", "1", "", ()

    def __init__(self, together=False):
        self.together, self.launches = together, 0

    def load(self, soon_done=False):
        pass

    def prepare(self, store, cpus, threads=None, fixed=False):
        return []

    def choose_devices(self, gpus, cpus):
        return Devices([None], "cpu", "Computing in NumPy")

    @contextmanager
    def join(self, store, devices):
        yield Alone()

    def model(self, plan, spec, devices):
        return ToyModel(spec)

    def trains_together(self, plan, spec, devices):
        return self.together

    def unite(self, sessions):
        for session in sessions:
            session.noted = []

        def launch():
            self.launches += 1
            for session in sessions:
                session.launch()

        return launch

    def adopt(self, net):
        raise UserError("NumPy computes no ResNet")

    def read_epoch(self, records, epoch, backend):
        raise UserError(f"NumPy has no reader {backend}")

    def versions(self):
        return {"Toy": self.version}

    def memory(self, devices):
        return {}
