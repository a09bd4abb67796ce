"""What a run leaves beside its log: metrics.jsonl, curve.png, report.html, TensorBoard's events."""

import json
import logging
import re
import sys
from typing import NamedTuple

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.plot import logreader, report
from mxnet_resnet.runs import metrics
from mxnet_resnet.runs.meters import Confusion, Confusions, Figures
from mxnet_resnet.settings.run import parse


def test_a_run_leaves_its_figures_its_curve_and_its_report(trained):
    folder = trained / "log/net"
    noted, logged = (logreader.read(folder / name) for name in ("metrics.jsonl", "train.log"))
    for phase in ("train", "validation"):
        found, expected = noted.curve(phase), logged.curve(phase)
        assert [epoch for epoch, _ in found] == [0, 1, 2]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    for epoch in range(3):
        (one, other) = (run.epochs[epoch] for run in (noted, logged))
        assert one.rate == other.rate == pytest.approx(0.1 if epoch < 2 else 0.01)
        assert one.seconds == pytest.approx(other.seconds, abs=1e-3) and one.wait == pytest.approx(other.wait, abs=1e-3)
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    last = logged.curve("validation")[-1][1]
    assert f"<b>{last:.2f}%</b><span>top-1 error, last (epoch 2)" in page
    pairs = re.findall(r"<b>digit (\d)</b> taken for <b>digit (\d)</b><br><span>(\d+) of (\d+) images", page)
    assert pairs and sum(int(count) for *_, count, _ in pairs) <= round(last / 100 * 360)
    assert all(label != taken for label, taken, *_ in pairs)
    assert "<p>Learning rate 0.1, times 0.1 from steps 90 (after 2 epochs) on</p>" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)


def test_images_in_the_report_are_those_confused(trained, digits):
    """The records shown have the label that they are said to have."""
    page = (trained / "log/net/report.html").read_text()
    path = digits / "digits_val.rec"
    records = recordio.RecordFile(path, recordio.scan(path).offsets)
    blocks = re.findall(r"<b>digit (\d)</b> taken for .*?</div>", page)
    shown = [re.findall(r'alt="record (\d+)"', block) for block in page.split("<div><p><b>digit ")[1:]]
    assert blocks and all(shown)
    for label, numbers in zip(blocks, shown):
        assert {records.read(int(number)).label for number in numbers} == {float(label)}


class Known(NamedTuple):
    """Figures that are there."""

    figures: Figures

    def result(self) -> Figures:
        return self.figures


def test_confusions_count_pairs_and_keep_the_numbers_of_records():
    counted = Confusions(first=1, step=2)  # worker 1 of 2
    for labels, taken in (([0, 1, 2], [0, 2, 2]), ([1, 1, 0], [2, 1, 2])):
        counted.update(Known(Figures(3, 0, None, 0.0, np.array(taken))), np.array(labels, np.float32))
    assert counted.worst(5) == [Confusion(1, 2, 2, 3, [3, 7]), Confusion(0, 2, 1, 2, [11])]
    assert counted.worst(1) == counted.worst(5)[:1]


def note(folder, append, epoch, *accuracies, events=False):
    with metrics.writing(folder, append, events, epoch) as figures:
        for number, accuracy in enumerate(accuracies, epoch):
            figures.train(number, [("accuracy", accuracy)], 0.1, 2.0, 100, 0.5)
            figures.validation(number, [("accuracy", accuracy), ("cross-entropy", float("nan"))])


def test_a_resumed_run_counts_with_its_later_values(tmp_path):
    note(tmp_path, False, 0, 0.1, 0.2, 0.3)
    note(tmp_path, True, 1, 0.6)
    run = logreader.read(tmp_path / "metrics.jsonl")
    expected = [(0, pytest.approx(90)), (1, pytest.approx(40))]
    assert run.curve("train") == run.curve("validation") == expected
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").open()]
    assert [(line["epoch"], line["phase"]) for line in lines[-2:]] == [(1, "train"), (1, "validation")]
    assert lines[-1]["metrics"]["cross-entropy"] is None
    assert lines[-2]["images_per_second"] == 50 and lines[-2]["lr"] == 0.1


def test_a_line_that_a_kill_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    note(tmp_path, False, 0, 0.1, 0.2)
    path.write_bytes(path.read_bytes()[:-30])
    note(tmp_path, True, 1, 0.4)
    assert logreader.read(path).curve("validation") == [(0, pytest.approx(90)), (1, pytest.approx(60))]


def test_a_new_run_keeps_the_older_figures(tmp_path):
    note(tmp_path, False, 0, 0.1, 0.2)
    note(tmp_path, False, 0, 0.5)
    assert len(logreader.read(tmp_path / "metrics.jsonl").epochs) == 1
    assert len(list(tmp_path.glob("metrics-*.jsonl"))) == 1


def test_a_journal_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    figures = metrics.MetricsFile(tmp_path)  # a folder
    figures.validation(0, [("accuracy", 0.5)])
    assert "cannot write" in caplog.text


def test_a_report_that_fails_does_not_end_the_run(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    subject = report.Subject("a net", {}, frozenset(), [], {}, {}, {})
    report.attempt(tmp_path, subject, None, Confusions())
    assert "There is no report: " in caplog.text
    assert not list(tmp_path.iterdir())


def test_tensorboard_events_on_request(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    note(tmp_path, False, 0, 0.5, events=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    data = events.read_bytes()
    assert all(tag in data for tag in (b"accuracy/train", b"accuracy/validation", b"run/lr"))
    assert b"cross-entropy" not in data  # which is nan


def test_tensorboard_that_is_missing_is_told_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert not parse(["--data-type", "digits"]).saving.tensorboard
    with pytest.raises(UserError, match="pip install tensorboardX"):
        metrics.check_tensorboard(parse(["--data-type", "digits", "--tensorboard"]).saving.tensorboard)
    metrics.check_tensorboard(False)
