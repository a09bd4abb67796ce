import logging

import pytest

from mxnet_resnet import logbook
from mxnet_resnet.errors import UserError

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


def read(tmp_path, text: str) -> logbook.Run:
    (tmp_path / "a.log").write_text(text)
    return logbook.read(tmp_path / "a.log")


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
    with logbook.writing(path, append=False):
        logbook.write_batch(0, 50, 226.19, [("accuracy", 0.001563)])
        logbook.write_epoch(3, "Train", [("accuracy", 0.9), ("cross-entropy", 0.25)])
        logbook.write_epoch(3, "Validation", [("accuracy", 0.75)])
        logbook.write_time(3, 12.5)
    lines = path.read_text().splitlines()
    assert lines[0] == "INFO:root:Epoch[0] Batch [50]\tSpeed: 226.19 samples/sec\tTrain-accuracy=0.001563"
    assert lines[1] == "INFO:root:Epoch[3] Train-accuracy=0.900000"
    run = logbook.read(path)
    assert run.name == "run"
    assert run.epochs[3].train == {"top1": pytest.approx(10), "cross-entropy": 0.25}
    assert (run.epochs[3].validation, run.epochs[3].seconds) == ({"top1": pytest.approx(25)}, 12.5)


def test_a_new_run_keeps_the_old_log_and_a_continued_one_goes_on_in_it(tmp_path):
    path = tmp_path / "train.log"
    for append, text in ((False, "first"), (True, "second"), (False, "third")):
        with logbook.writing(path, append=append):
            logging.info(text)
    assert path.read_text() == "INFO:root:third\n"
    (older,) = set(tmp_path.iterdir()) - {path}
    assert older.read_text() == "INFO:root:first\nINFO:root:second\n"


def test_a_failure_is_the_last_line_of_the_log(tmp_path):
    with pytest.raises(UserError), logbook.writing(tmp_path / "train.log", append=False):
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
    run = logbook.read(shared / f"logs/{name}.log")
    errors = [error for _, error in run.curve("validation")]
    assert [epoch for epoch, _ in run.curve("validation")] == list(range(epochs))
    assert len(run.curve("train")) == epochs
    assert (round(errors[-1], 2), round(min(errors), 2)) == (last, best)
