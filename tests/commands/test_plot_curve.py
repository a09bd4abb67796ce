"""log/plot_curve.py: pictures, pages, tables; and what it cannot draw."""

import csv
import os
import re
import time
from pathlib import Path

import cv2
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mxnet_resnet.plot import curves, figures, logreader, means
from mxnet_resnet.plot.run import Run
from tests.helpers import REPOSITORY

DIGITS = REPOSITORY / "log" / "digits.log"
TOP5 = """\
INFO:root:{}training images in a.rec
INFO:root:Epoch[0] Learning rate=0.1
INFO:root:Epoch[0] Train-accuracy=0.2
INFO:root:Epoch[0] Time cost=1800.0
INFO:root:Epoch[0] Validation-accuracy=0.3
INFO:root:Epoch[0] Validation-top_k_accuracy_5=0.6
INFO:root:Epoch[1] Learning rate=0.01
INFO:root:Epoch[1] Train-accuracy=0.4
INFO:root:Epoch[1] Time cost=3600.0
INFO:root:Epoch[1] Validation-accuracy=0.5
INFO:root:Epoch[1] Validation-top_k_accuracy_5=0.8
INFO:root:Epoch[2] Validation-accuracy=0.45
"""


@pytest.fixture
def plot(command, capsys, tmp_path):
    """Run plot_curve on the log of some text, or others: (status, standard output, standard error)."""

    def run(*more: object, text: str = TOP5.format("1000 "), out: str = "curve.png"):
        (tmp_path / "a.log").write_text(text)
        return command(capsys, "log/plot_curve.py", "--logs", tmp_path / "a.log", "--out", tmp_path / out, *more)

    return run


def test_the_line_that_run_sh_prints(command, capsys, tmp_path):
    out = tmp_path / "curve.png"
    _, printed, _ = command(capsys, "log/plot_curve.py", f"--logs={DIGITS}", f"--out={out}")
    assert printed == f"top-1 error 0.56% (best 0.28%), curve {out}\n"


@pytest.mark.parametrize("suffix, begins", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_formats(plot, tmp_path, suffix, begins):
    assert plot(out=f"curve.{suffix}")[0] == 0
    assert (tmp_path / f"curve.{suffix}").read_bytes().startswith(begins)


def test_top5_gets_a_panel_where_a_log_has_it(plot, tmp_path):
    plot()
    both = cv2.imread(str(tmp_path / "curve.png")).shape
    plot("--metric", "top1")
    assert both[1] > cv2.imread(str(tmp_path / "curve.png")).shape[1]


def test_the_table(plot):
    _, printed, _ = plot("--table")
    lines = [re.split(r"\s{2,}", line) for line in printed.splitlines()[:3]]
    assert lines[0] == ["log", "metric", "last", "epoch", "best", "epoch", "epochs", "s/epoch", "images/s"]
    assert lines[1] == ["a", "top-1 error (%)", "55.00", "2", "50.00", "1", "3", "2700.0", "0"]
    assert lines[2] == ["a", "top-5 error (%)", "20.00", "1", "20.00", "1", "3", "2700.0", "0"]


def test_the_table_of_a_part(plot):
    _, printed, _ = plot("--table", "--to", "0")
    assert re.split(r"\s{2,}", printed.splitlines()[1])[2:6] == ["70.00", "0", "70.00", "0"]


def test_csv(plot, tmp_path):
    plot("--csv", tmp_path / "a.csv", "--from", 1)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["epoch"], row["phase"], row["top1"], row["top5"]) for row in rows] == [
        ("1", "train", "60", ""),
        ("1", "validation", "50", "20"),
        ("2", "validation", "55", ""),
    ]
    assert (rows[0]["lr"], rows[0]["seconds"]) == ("0.01", "3600")


@pytest.fixture
def run_(tmp_path):
    (tmp_path / "a.log").write_text(TOP5.format("1000 "))
    return logreader.read(tmp_path / "a.log")


@pytest.mark.parametrize("axis, x", [("epoch", [0, 1, 2]), ("hours", [0.5, 1.5, 2.25]), ("images", [1000, 2000, 3000])])
def test_axes(run_, axis, x):
    assert curves.curve(run_, "validation", "top1", curves.View(("top1",), axis)).x == pytest.approx(x)


def test_lines_of_the_picture(run_):
    axes = figures.figure([run_, run_], curves.View(("top1",))).axes[0]
    train, validation, steps = axes.lines[:3]
    assert (train.get_linestyle(), list(train.get_ydata())) == ("--", pytest.approx([80, 60]))
    assert (validation.get_linestyle(), list(validation.get_ydata())) == ("-", pytest.approx([70, 50, 55]))
    assert (steps.get_marker(), list(steps.get_xdata())) == ("v", [1])
    assert train.get_color() == validation.get_color() != axes.lines[3].get_color()


def test_the_legend_tells_of_triangles_only_where_there_are_some(run_):
    def told(last):
        drawn = figures.figure([run_], curves.View(("top1",), last=last))
        return "learning rate changes" in [text.get_text() for text in drawn.legends[0].get_texts()]

    assert (told(0), told(1)) == (False, True)


def test_logs_have_the_names_that_are_given(plot):
    status, printed, _ = plot("--names", "the first", "--table")
    assert status == 0 and "\nthe first  top-1" in printed


@pytest.mark.parametrize("count", [1, 10, 11, 60])
def test_each_log_has_a_colour_of_its_own(count):
    assert len(set(curves.colours(count))) == count


def test_the_legend_of_many_logs_hides_no_curve_and_is_not_cut(run_):
    runs = [Run(f"a run with quite a long name {i}", run_.epochs) for i in range(30)]
    drawn = figures.figure(runs, curves.View(("top1",)))
    FigureCanvasAgg(drawn).draw()
    legend, axes = drawn.legends[0].get_window_extent(), drawn.axes[0].get_window_extent()
    assert legend.y1 < axes.y0 and legend.y0 >= 0 and legend.x0 >= 0 and legend.x1 <= drawn.bbox.x1
    assert axes.height > 0.4 * drawn.bbox.height


def test_a_page_needs_nothing_but_itself(plot, tmp_path):
    assert plot(out="curve.html")[0] == 0
    page = (tmp_path / "curve.html").read_text()
    assert "Plotly.newPlot" in page and "learning rate 0.01" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--metric", "loss"], "no curve of loss in it: --metric may be top1, top5"),
        (["--names", "x,y"], "--names has 2 names for 1 runs: a"),
        (["--from", "7"], "no epoch from --from to --to: its epochs are 0 to 2"),
        (["--over", "days"], "argument --over: invalid choice"),
        (["--out", "x.gifx"], "has to end in one of .*html"),
    ],
)
def test_what_cannot_be_drawn_is_told(plot, more, message):
    assert_told(plot(*more), message)


@pytest.mark.parametrize("axis, message", [("hours", "tells no time"), ("images", "does not tell how many images")])
def test_an_axis_that_a_log_does_not_tell(plot, axis, message):
    assert_told(plot("--over", axis, text="Epoch[0] Validation-accuracy=0.5\n"), message)


@pytest.mark.parametrize("text", ["", "\x00\x01\x02", "Epoch[0] Time cost=5.0\n", "Epoch[0] Validation-accuracy=nan\n"])
def test_a_log_without_a_curve_is_told(plot, text):
    assert_told(plot(text=text), "has no curve in it")


def test_a_log_of_another_metric_alone_says_which(plot):
    assert_told(plot(text="Epoch[0] Validation-rmse=0.5\n"), "no curve of top1 in it: --metric may be rmse")


def assert_told(result, message):
    status, out, err = result
    assert (status, out) == (2, "") and re.fullmatch(rf"error: .*{message}.*\n", err), err


def test_watch_waits_for_a_curve_and_draws_what_is_added(plot, tmp_path, monkeypatch):
    log = tmp_path / "a.log"
    turns = iter([TOP5.format("1000 "), None, TOP5.format("1000 ") + "INFO:root:Epoch[3] Validation-accuracy=0.9\n"])

    def sleep(seconds):
        text = next(turns, KeyboardInterrupt)
        if text is KeyboardInterrupt:
            raise KeyboardInterrupt
        if text:
            log.write_text(text)
            os.utime(log)

    monkeypatch.setattr(time, "sleep", sleep)
    status, out, err = plot("--watch", 1, text="")
    assert (status, err.count("waiting: ")) == (130, 1)
    assert [line.split(",")[0] for line in out.splitlines()] == [
        "top-1 error 55.00% (best 50.00%)",
        "top-1 error 10.00% (best 10.00%)",
    ]


def test_a_run_without_epochs_in_the_part_is_left_out(command, capsys, tmp_path):
    for name, epochs in (("short", 3), ("long", 9)):
        lines = (f"INFO:root:Epoch[{epoch}] Validation-accuracy=0.{epoch + 1}\n" for epoch in range(epochs))
        (tmp_path / f"{name}.log").write_text("".join(lines))
    logs = f"--logs={tmp_path}/short.log,{tmp_path}/long.log"
    status, out, err = command(capsys, "log/plot_curve.py", logs, f"--out={tmp_path}/a.png", "--from=5", "--to=7")
    assert status == 0 and out.startswith("top-1 error 20.00%")
    assert err.count("\n") == 1 and err.startswith("left out: the log of short has no epoch")


def test_a_metric_that_no_log_has_is_told(command, capsys, tmp_path):
    (tmp_path / "a.log").write_text("INFO:root:Epoch[0] Validation-accuracy=0.5\n")
    arguments = (f"--logs={tmp_path}/a.log", f"--out={tmp_path}/a.png", "--metric=top1,losss")
    status, _, err = command(capsys, "log/plot_curve.py", *arguments)
    assert status == 2 and "no curve of losss" in err


def test_logs_with_equal_names_are_told_apart(command, capsys, tmp_path):
    paths = [tmp_path / first / "net/train.log" for first in ("one", "two")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("INFO:root:Epoch[0] Validation-accuracy=0.5\n")
    _, out, _ = command(capsys, "log/plot_curve.py", f"--logs={paths[0]},{paths[1]}", f"--out={tmp_path}/a.svg")
    assert [line.split(":")[0] for line in out.splitlines()] == ["one/net", "two/net"]
    (paths[0].parent / "x.log").write_bytes(paths[0].read_bytes())
    (paths[0].parent / "x.txt").write_bytes(paths[0].read_bytes())
    _, out, _ = command(capsys, "log/plot_curve.py", f"--logs={paths[0].parent}/x.*", f"--out={tmp_path}/a.svg")
    assert [line.split(":")[0] for line in out.splitlines()] == ["x (x.log)", "x (x.txt)"]


@pytest.mark.parametrize("flag", ["--csv=.", "--out=c.pgf"])
def test_what_cannot_be_written_is_told_at_once(command, capsys, tmp_path, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").write_text("INFO:root:Epoch[0] Validation-accuracy=0.5\n")
    status, _, err = command(capsys, "log/plot_curve.py", "--logs=a.log", flag)
    assert (status, err.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def write_seeds(folder, **errors):
    """Logs of runs by their names, with these validation errors in percent; training has 5 less."""
    for name, values in errors.items():
        path = folder / name.replace("_", "-") / "train.log"
        path.parent.mkdir()
        lines = [
            line
            for epoch, error in enumerate(values)
            for line in (
                f"INFO:root:Epoch[{epoch}] Train-accuracy={1 - (error - 5) / 100:.6f}",
                f"INFO:root:Epoch[{epoch}] Time cost={10 + epoch:.3f}",
                f"INFO:root:Epoch[{epoch}] Validation-accuracy={1 - error / 100:.6f}",
            )
        ]
        path.write_text("\n".join(lines) + "\n")
        yield str(path)


def test_seeds_are_drawn_as_their_mean_in_a_band(command, capsys, tmp_path):
    seeds = {"net_seed1": [30, 20, 12], "net_seed2": [34, 22, 14], "net_seed3": [38, 30, 10]}
    logs = [*write_seeds(tmp_path, **seeds, other=[9, 8])]
    out = tmp_path / "mean.svg"
    status, printed, err = command(capsys, "log/plot_curve.py", "--mean", "--logs", ",".join(logs), "--out", out)
    assert (status, err) == (0, "")
    assert printed.splitlines() == [
        f"net, mean of 3: top-1 error 12.00% (best 12.00%), curve {out}",
        f"other: top-1 error 8.00% (best 8.00%), curve {out}",
    ]
    runs = {run.name: run for run in map(logreader.read, map(Path, logs))}
    (mean, other), left_out = means.average({"net": list(runs.values())[:3], "other": [runs["other"]]})
    assert mean.curve("train") == [(0, pytest.approx(29)), (1, pytest.approx(19)), (2, pytest.approx(7))]
    points = curves.curve(mean, "validation", "top1", curves.View(("top1",)))
    lower, upper = curves.band(mean, "validation", "top1", points)
    assert lower == pytest.approx([30, 24 - 28**0.5, 10]) and upper == pytest.approx([38, 24 + 28**0.5, 14])
    assert mean.epochs[2].seconds == 12 and other is runs["other"] and not left_out
    heads, *lines = csv.reader(curves.as_csv([mean, other], curves.View(("top1",))).splitlines())
    assert heads.count("top1 std") == 1
    told = {(cells[0], cells[1], cells[2]): cells[heads.index("top1 std")] for cells in lines}
    deviation = mean.deviations["validation", "top1", 2]
    assert float(told[mean.name, "2", "validation"]) == pytest.approx(deviation, rel=1e-4) and deviation > 0
    assert {value for place, value in told.items() if place[0] == "other"} == {""}
    drawn = figures.figure([mean, other], curves.View(("top1",)))
    assert len(drawn.axes[0].collections) == 2  # the bands of one run's training and validation


def test_a_mean_ends_where_a_run_does(command, capsys, tmp_path):
    logs = [*write_seeds(tmp_path, net_seed1=[30, 20, 12, 11], net_seed2=[34, 22], net_seed3=[38, 30, 10, 9])]
    flags = ("--mean", "--logs", ",".join(logs), "--out", tmp_path / "mean.html", "--table", "--over", "hours")
    status, printed, err = command(capsys, "log/plot_curve.py", *flags)
    assert (status, err) == (0, "left out: 2 epochs from 2 to 3, which are not all in net-seed2\n")
    assert re.search(r"net, mean of 3 +top-1 error \(%\) +24\.00 +1 +24\.00", printed)
    assert (tmp_path / "mean.html").read_text().count("tonexty") >= 2


def test_one_epoch_that_not_all_have_is_left_out(command, capsys, tmp_path):
    logs = ",".join(write_seeds(tmp_path, net_seed1=[30, 20, 12], net_seed2=[34, 22]))
    status, _, err = command(capsys, "log/plot_curve.py", "--mean", "--logs", logs, "--out", tmp_path / "mean.png")
    assert (status, err) == (0, "left out: epoch 2, which is not in net-seed2\n")


def test_a_run_is_not_in_a_mean_twice(command, capsys, tmp_path):
    (log,) = write_seeds(tmp_path, net_seed1=[30, 20])
    status, _, err = command(capsys, "log/plot_curve.py", "--mean", f"--logs={log},{log}", "--out", tmp_path / "a.png")
    assert status == 2 and "are the same run, which would count twice" in err


def test_logs_by_spaces_commas_and_patterns(command, capsys, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.log").write_text("INFO:root:Epoch[0] Validation-accuracy=0.5\n")
    for logs in ([f"{tmp_path}/a.log", f"{tmp_path}/b.log,{tmp_path}/c.log"], [f"{tmp_path}/*.log"]):
        status, out, _ = command(capsys, "log/plot_curve.py", "--logs", *logs, "--out", tmp_path / "x.png")
        assert (status, [line[0] for line in out.splitlines()]) == (0, ["a", "b", "c"])
    status, _, err = command(capsys, "log/plot_curve.py", f"--logs={tmp_path}/*.txt", "--out", tmp_path / "x.png")
    assert status == 2 and re.fullmatch(r"error: --logs .*\*\.txt: no file has a name of this pattern\n", err)


def test_texts_of_a_pdf_are_texts(plot, tmp_path):
    plot(out="curve.pdf")
    data = (tmp_path / "curve.pdf").read_bytes()
    assert b"/Subtype /Type0" in data and b"/CIDFontType2" in data and b"/Type3" not in data


def test_what_is_left_out_of_a_log_is_told(plot):
    text = "INFO:root:Epoch[0] Validation-accuracy=0.5\nINFO:root:Epoch[0] Validation-accuracy=0.6\n"
    status, out, err = plot(text=text)
    assert status == 0 and out.startswith("top-1 error 40.00%")
    note = "line 2 goes back to epoch 0: of the lines before, the validation of epoch 0 is left out"
    assert err == f"note: a: {note}\n"
