import json

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.engines.mxnet.session import sum_up
from mxnet_resnet.runs.meters import Diverged, Meter


def batches(classes, count=5, size=7):
    rng = np.random.default_rng(0)
    for _ in range(count):
        scores = rng.normal(size=(size, classes)).astype(np.float32)
        yield mx.nd.array(scores).softmax(), mx.nd.array(rng.integers(classes, size=size))


def figures(classes, count=5):
    return [sum_up(outputs, labels, classes) for outputs, labels in batches(classes, count)]


@pytest.mark.parametrize("classes", [10, 200])
def test_figures_agree_with_mxnets_metrics(classes):
    meter, theirs = Meter(classes, 2), [mx.metric.Accuracy(), mx.metric.CrossEntropy(), mx.metric.TopKAccuracy(5)]
    for outputs, labels in batches(classes):
        meter.update(sum_up(outputs, labels, classes))
        for metric in theirs:
            metric.update([labels], [outputs])
    found = dict(meter.epoch())
    assert len(found) == (2 if classes == 10 else 3)
    for metric in theirs:
        name, value = metric.get()
        if name in found:
            assert found[name] == pytest.approx(value, rel=1e-6)


def test_windows_and_epochs():
    whole, cut = Meter(10, 2), Meter(10, 2)
    windows = []
    for index, batch in enumerate(figures(10)):
        whole.update(batch)
        cut.update(batch)
        if index in (1, 4):
            windows.append(dict(cut.window())["accuracy"])
    assert dict(whole.epoch()) == dict(cut.epoch())
    assert (2 * windows[0] + 3 * windows[1]) / 5 == pytest.approx(dict(whole.epoch())["accuracy"])


def test_sums_go_on_from_a_checkpoint_to_the_bit():
    whole, first = Meter(10, 2), Meter(10, 2)
    data = figures(10)
    for batch in data:
        whole.update(batch)
    for batch in data[:3]:
        first.update(batch)
    second = Meter(10, 2)
    second.restore(json.loads(json.dumps(first.state())))
    for batch in data[3:]:
        second.update(batch)
    assert (second.epoch(), second.window()) == (whole.epoch(), whole.window())


def test_labels_may_be_distributions():
    (outputs, labels), *_ = batches(10)
    hard, soft = Meter(10, 2), Meter(10, 2)
    hard.update(sum_up(outputs, labels, 10))
    soft.update(sum_up(outputs, labels.one_hot(10), 10))
    assert dict(soft.epoch()) == pytest.approx(dict(hard.epoch()), rel=1e-6)


def test_a_loss_that_is_not_finite_is_told_with_its_batch():
    meter = Meter(10, 2)
    for tag, (outputs, labels) in enumerate(batches(10)):
        if tag == 2:
            outputs[:] = np.nan
        try:
            meter.update(sum_up(outputs, labels, 10), tag)
        except Diverged as end:
            assert (end.tag, tag) == (2, 3)  # known when the next batch is under way
            break
    else:
        pytest.fail("nothing was told")
