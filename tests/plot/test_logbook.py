import logging
import math
from pathlib import Path
from random import Random

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import curves, logreader
from mxnet_resnet.plot.run import Run
from mxnet_resnet.runs import logbook

FIRST_REPOSITORY = """\
INFO:root:Epoch[0] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-accuracy=0.250000
INFO:root:Epoch[0] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-top_k_accuracy_5=0.500000
INFO:root:Epoch[0] Batch [100]\tSpeed: 211.48 samples/sec\tTrain-accuracy=0.350000
INFO:root:Epoch[0] Resetting Data Iterator
INFO:root:Epoch[0] Time cost=72.598
INFO:root:Epoch[0] Validation-accuracy=0.400000
INFO:root:Epoch[1] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-accuracy=0.600000
INFO:root:Epoch[1] Validation-accuracy=0.650000
"""
FIT = """\
INFO:root:Epoch[0] Batch [0-20]\tSpeed: 100.00 samples/sec\taccuracy=0.200000
INFO:root:Epoch[0] Train-accuracy=0.300000
INFO:root:Epoch[0] Validation-accuracy=0.500000
"""
GLUONCV_CIFAR = "INFO:root:[Epoch 7] train=0.75 val=0.5 loss=1.25 time: 16.5\n"
GLUONCV_IMAGENET = """\
INFO:root:Epoch[3] Batch [49]\tSpeed: 2854.05 samples/sec\ttop1-err=0.206796\tlr=0.000000
INFO:root:[Epoch 3] training: err-top1=0.25
INFO:root:[Epoch 3] speed: 2781 samples/sec\ttime cost: 472.5
INFO:root:[Epoch 3] validation: err-top1=0.229 err-top5=0.065
"""


def read(tmp_path, text: str) -> Run:
    (tmp_path / "a.log").write_text(text)
    return logreader.read(tmp_path / "a.log")


def test_first_repository(tmp_path):
    run = read(tmp_path, FIRST_REPOSITORY)
    assert run.curve("train") == [(0, pytest.approx(70)), (1, pytest.approx(40))]
    assert run.curve("validation") == [(0, pytest.approx(60)), (1, pytest.approx(35))]
    assert run.curve("train", "top5") == [(0, pytest.approx(50))]
    assert run.epochs[0].seconds == 72.598


def test_module_fit_tells_the_training_metric_of_an_epoch_itself(tmp_path):
    assert read(tmp_path, FIT).curve("train") == [(0, pytest.approx(70))]


def test_gluoncv(tmp_path):
    run = read(tmp_path, GLUONCV_IMAGENET + GLUONCV_CIFAR)
    assert run.curve("train") == [(3, pytest.approx(25)), (7, pytest.approx(25))]
    assert run.curve("validation") == [(3, pytest.approx(22.9)), (7, pytest.approx(50))]
    assert run.curve("validation", "top5") == [(3, pytest.approx(6.5))]
    assert [run.epochs[3].seconds, run.epochs[7].seconds] == [472.5, 16.5]


def test_later_lines_win_after_a_restart(tmp_path):
    restarted = (
        "INFO:root:Epoch[1] Batch [50]\tSpeed: 1.00 samples/sec\tTrain-accuracy=0.800000\n"
        "INFO:root:Epoch[1] Batch [100]\tSpeed: 1.00 samples/sec\tTrain-accuracy=0.900000\n"
        "INFO:root:Epoch[1] Batch [50]\tSpeed: 1.00 samples/sec\tTrain-accuracy=0.700000\n"
        "INFO:root:Epoch[1] Validation-accuracy=0.750000\n"
    )
    run = read(tmp_path, FIRST_REPOSITORY + restarted)
    assert run.curve("train")[1] == (1, pytest.approx(30))
    assert run.curve("validation")[1] == (1, pytest.approx(25))
    assert len(run.epochs) == 2


def test_a_restart_from_an_earlier_epoch_forgets_the_later_ones(tmp_path):
    run = read(tmp_path, FIRST_REPOSITORY + FIT)
    assert run.curve("train") == [(0, pytest.approx(70))]
    assert run.curve("validation") == [(0, pytest.approx(50))]


def test_an_epoch_with_one_batch_line_repeated_is_not_averaged(tmp_path):
    line = "INFO:root:Epoch[0] Batch [50]\tSpeed: 1.00 samples/sec\tTrain-accuracy=0.{}\n"
    assert read(tmp_path, line.format(2) + line.format(8)).curve("train") == [(0, pytest.approx(20))]


def test_nan_and_foreign_metrics_are_no_errors(tmp_path):
    text = "INFO:root:Epoch[0] Validation-accuracy=nan\nINFO:root:Epoch[0] Validation-top1=0.5\n"
    run = read(tmp_path, text)
    assert run.curve("validation") == []
    assert run.epochs[0].validation["logged top1"] == 0.5


def test_a_truncated_last_line_is_no_metric(tmp_path):
    run = read(tmp_path, FIRST_REPOSITORY + "INFO:root:Epoch[2] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-accu")
    assert [epoch for epoch, _ in run.curve("train")] == [0, 1]


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "run" / "train.log"
    with logbook.opening(path, append=False) as log, log.receiving():
        logbook.write_batch(0, 50, 226.19, [("accuracy", 0.001563)])
        logbook.write_epoch(3, "Train", [("accuracy", 0.9), ("cross-entropy", 0.25)])
        logbook.write_epoch(3, "Validation", [("accuracy", 0.75)])
        logbook.write_time(3, 12.5)
    lines = path.read_text().splitlines()
    assert lines[0] == "INFO:root:Epoch[0] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-accuracy=0.001563"
    assert lines[1] == "INFO:root:Epoch[3] Train-accuracy=0.900000"
    run = logreader.read(path)
    assert run.name == "run"
    assert run.epochs[3].train == {"top1": pytest.approx(10), "cross-entropy": 0.25}
    assert (run.epochs[3].validation, run.epochs[3].seconds) == ({"top1": pytest.approx(25)}, 12.5)


def test_a_new_run_keeps_the_old_log_and_a_continued_one_goes_on_in_it(tmp_path):
    path = tmp_path / "train.log"
    for append, text in ((False, "first"), (True, "second"), (False, "third")):
        with logbook.opening(path, append=append) as log, log.receiving():
            logging.info(text)
    assert path.read_text() == "INFO:root:third\n"
    (older,) = set(tmp_path.iterdir()) - {path}
    assert older.read_text() == "INFO:root:first\nINFO:root:second\n"


def test_a_failure_is_the_last_line_of_the_log(tmp_path):
    opened = logbook.opening(tmp_path / "train.log", append=False)
    with pytest.raises(UserError), opened as log, log.receiving():
        raise UserError("record 5 is damaged")
    assert (tmp_path / "train.log").read_text().endswith("ERROR:root:record 5 is damaged\n")


@pytest.mark.parametrize("text", ["", "nothing of interest\n", "\x00\xff\x89PNG"])
def test_a_log_without_a_curve_is_told(tmp_path, text):
    with pytest.raises(UserError, match="has no curve in it"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "name, epochs, last, best",
    [
        ("tornadomeet-resnet-18", 120, 30.74, 30.48),  # published: 30.48
        ("tornadomeet-resnet-50", 126, 24.44, 24.39),  # published: 24.39
        ("tornadomeet-resnet-164", 300, 4.71, 4.68),  # published: 4.68
        ("gluoncv-cifar_resnet20_v2", 200, 8.11, 7.94),
        ("gluoncv-resnet50_v2", 120, 22.90, 22.86),
        ("mxnet-fit-cifar10-resnet110", 1, 47.37, 47.37),
    ],
)
def test_published_logs(shared, name, epochs, last, best):
    run = logreader.read(shared / f"logs/{name}.log")
    errors = [error for _, error in run.curve("validation")]
    assert [epoch for epoch, _ in run.curve("validation")] == list(range(epochs))
    assert len(run.curve("train")) == epochs
    assert (round(errors[-1], 2), round(min(errors), 2)) == (last, best)


def test_the_published_error_of_resnet_164_is_that_of_its_best_epoch_and_not_of_its_last(shared):
    curve = logreader.read(shared / "logs/tornadomeet-resnet-164.log").curve("validation")
    epoch, best = min(curve, key=lambda point: point[1])
    assert (epoch, round(best, 2)) == (281, 4.68)
    assert (curve[-1][0], round(curve[-1][1], 2)) == (299, 4.71)


@pytest.mark.parametrize(
    "name, steps, images, speed",
    [
        ("tornadomeet-resnet-164", [(220, 0.01), (260, 0.001), (280, 0.0001)], 50_000, 732),
        ("tornadomeet-resnet-50", [(30, 0.01), (60, 0.001), (95, 0.0001)], 1_281_167, 233),  # the last by a restart
        ("gluoncv-resnet50_v2", [], None, 2781),  # a cosine has no steps
        ("mxnet-fit-cifar10-resnet110", [], 50_000, 92),
    ],
)
def test_what_published_logs_tell_beside_metrics(shared, name, steps, images, speed):
    run = logreader.read(shared / f"logs/{name}.log")
    assert (run.rate_steps(), run.images) == (steps, images)
    assert round(run.epochs[max(run.epochs)].speed) == speed


def test_a_rate_that_changes_within_an_epoch_is_that_of_the_next(tmp_path):
    first, second = FIRST_REPOSITORY.split("INFO:root:Epoch[0] Resetting Data Iterator\n")
    change = "INFO:root:Namespace(lr=0.5)\n", "INFO:root:Update[101]: Change learning rate to 5.0e-02\n"
    run = read(tmp_path, change[0] + first + change[1] + second)
    assert [run.epochs[epoch].rate for epoch in (0, 1)] == [0.5, 0.05]


def test_steps_of_the_rate_are_known_where_only_changes_are_told(tmp_path):
    epochs = [f"INFO:root:Epoch[{number}] Validation-accuracy=0.5\n" for number in range(6)]
    change = "INFO:root:Update[9]: Change learning rate to 1.0e-0{}\n"
    run = read(tmp_path, "".join([*epochs[:2], change.format(2), *epochs[2:4], change.format(3), *epochs[4:]]))
    assert run.rate_steps() == [(2, 0.01), (4, 0.001)]


def test_a_restart_within_an_epoch_keeps_the_batches_before_it_and_the_rate(tmp_path):
    line = "INFO:root:Epoch[0] Batch [{}]\tSpeed: {}.00 samples/sec\tTrain-accuracy={}\n"
    lines = ((10, 100, 0.2), (20, 100, 0.9), (20, 50, 0.4))
    run = read(tmp_path, "INFO:root:Epoch[0] Learning rate=0.1\n" + "".join(line.format(*part) for part in lines))
    assert run.curve("train") == [(0, pytest.approx(70))]
    assert run.epochs[0].rate == 0.1
    assert run.epochs[0].speed == pytest.approx(2 / (1 / 100 + 1 / 50))  # images over time, not the mean of speeds


def test_other_arguments_from_epoch_0_on_are_another_run(tmp_path):
    first, other = "INFO:root:Namespace(depth=20)\n", "INFO:root:Namespace(depth=56)\n"
    assert len(logreader.read_all(write(tmp_path, first + FIRST_REPOSITORY + first + FIT))) == 1
    resumed = other.replace(")", ", resume=True)")
    assert len(logreader.read_all(write(tmp_path, first + FIRST_REPOSITORY + resumed + FIT))) == 1
    runs = logreader.read_all(write(tmp_path, first + FIRST_REPOSITORY + other + FIT))
    assert [run.name for run in runs] == ["a (1)", "a (2)"]
    assert [run.curve("validation")[-1] for run in runs] == [(1, pytest.approx(35)), (0, pytest.approx(50))]


@pytest.mark.parametrize(
    "name, value, ours, percent",
    [
        ("top1-err", 0.25, "top1", 25),
        ("err-top5", 0.25, "top5", 25),
        ("acc", 0.25, "top1", 75),
        ("acc-top5", 0.25, "top5", 75),
        ("top_k_acc_5", 0.25, "top5", 75),
        ("top_5_accuracy", 0.25, "top5", 75),
        ("rmse", 0.25, "rmse", 0.25),
        ("face_accuracy", 0.25, "face_accuracy", 0.25),  # of something else
        ("top_k_accuracy_10", 0.25, "top_k_accuracy_10", 0.25),
    ],
)
def test_metrics_of_other_names(tmp_path, name, value, ours, percent):
    run = read(tmp_path, f"INFO:root:Epoch[0] Validation-{name}={value}\n")
    assert run.epochs[0].validation == {ours: pytest.approx(percent)}


def test_a_number_that_was_cut_is_not_believed(tmp_path):
    line = "INFO:root:Epoch[2] Validation-accuracy=0.952927"
    assert read(tmp_path, FIRST_REPOSITORY + line).curve("validation")[-1] == (2, pytest.approx(4.7073))
    assert read(tmp_path, FIRST_REPOSITORY + line[:-4]).curve("validation")[-1][0] == 1


def write(tmp_path, text: str):
    (tmp_path / "a.log").write_text(text)
    return tmp_path / "a.log"


def mutated(random: Random, lines: list[str]) -> bytes:
    """Real lines, shuffled, cut, with bytes changed, or numbers made absurd."""
    found = bytearray("".join(random.choices(lines, k=30)).encode())
    for _ in range(random.randrange(12)):
        place = random.randrange(len(found))
        new = random.choice([b"", bytes([random.randrange(256)]), b"9" * 5000, b"e999", b"nan", b"-", b"{", b"\n"])
        found[place : place + random.randrange(4)] = new
    return bytes(found)


def test_whatever_a_log_holds_it_is_read_or_refused(tmp_path):
    random = Random(0)
    objects = ['{"epoch": 1, "phase": "train", "metrics": {"accuracy": 0.5}, "lr": 0.1, "seconds": 2, "images": 9}\n']
    objects += ['{"epoch": -1, "phase": "train"}\n', '{"epoch": true, "metrics": 5}\n', '{"a":' * 9999 + "\n", "{}\n"]
    header = ["INFO:root:Namespace(lr=0.1, num_examples=50000)\n", "INFO:root:Update[9]: Change learning rate to 0\n"]
    lines = (FIRST_REPOSITORY + FIT + GLUONCV_CIFAR + GLUONCV_IMAGENET).splitlines(keepends=True) + header + objects
    read_ones = 0
    for turn in range(400):
        data = random.randbytes(random.randrange(500)) if turn % 4 == 0 else mutated(random, lines)
        (tmp_path / "a.log").write_bytes(data)
        try:
            runs = logreader.read_all(tmp_path / "a.log")
            view = curves.View(curves.choose_metrics(runs, None))
            text = curves.table(runs, view) + curves.as_csv(runs, view) + str([run.rate_steps() for run in runs])
        except UserError as error:
            assert "\n" not in str(error)
        else:
            read_ones += 1
            assert text and all(math.isfinite(value) for run in runs for _, value in run.curve("validation"))
    assert read_ones > 200


def test_a_full_disk_under_the_log_is_told_once_and_ends_nothing(capfd):
    with logbook.opening(Path("/dev/full"), append=True) as log, log.receiving():
        for epoch in range(3):
            logbook.write_time(epoch, 1.5)
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "Time cost" not in line] == ["cannot write /dev/full: No space left on device"]
    assert len(lines) == 4
