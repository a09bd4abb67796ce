"""Logs of other people: what their lines tell, whose they are, and that nothing is left out without a note."""

import json
import math
import random
import re

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.plot import aggregate, curves, logreader, logtext, means


@pytest.fixture
def read(tmp_path):
    """The runs of a log with this content."""

    def run(content, name="a.log"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return logreader.read_all(path)

    return run


def validations(run, metric="top1"):
    return [(epoch, round(value, 2)) for epoch, value in run.told("validation", metric)]


LINES = (
    "INFO:root:Epoch[{0}] Batch [50]\tSpeed: 100.00 samples/sec\tTrain-accuracy=0.{1}0000\n"
    "INFO:root:Epoch[{0}] Train-accuracy=0.{1}0000\n"
    "INFO:root:Epoch[{0}] Time cost=10.000\n"
    "INFO:root:Epoch[{0}] Validation-accuracy=0.{1}5000\n"
)
PLAIN = LINES.format(0, 5) + LINES.format(1, 6)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-8-sig"),
        LINES.format(0, 5).encode() + LINES.format(1, 6).encode("utf-16-le"),  # >> of PowerShell
        re.sub("(?m)^(.*)$", "\x1b[32m\\1\x1b[0m", PLAIN),
        re.sub("(?m)^(.*)$", "[32m\\1[0m", PLAIN),
        PLAIN.replace("\t", "#011"),
        re.sub(r"(=0\.\d+)", r"\1,", PLAIN),
        PLAIN.replace("Epoch[", "Iteration["),
        "".join(f"{line}\n{line.removeprefix('INFO:root:')}\n" for line in PLAIN.splitlines()),  # two handlers
        PLAIN.replace("Validation-accuracy=0.55000\nINFO", "Validation-accuracy=0.55000INFO"),  # two writers
        re.sub(r"accuracy=0\.(\d\d)(\d+)", r"accuracy=\1.\2%", PLAIN),
        re.sub(r"accuracy=0\.(\d\d)(\d+)", r"accuracy = \1.\2 %.", PLAIN),
        re.sub("(?m)^(.*)$", "\x1b[38:2::255:0:0m\\1\x1b[m", PLAIN),
        re.sub("(?m)^(.*)$", r"^[[32m\1^[[0m", PLAIN),
        re.sub("=([0-9.]+)", r"=#033[31m\1#033[0m", PLAIN),
        "".join(json.dumps({"log": f"{line}\n", "stream": "stderr"}) + "\n" for line in PLAIN.splitlines()),
        PLAIN.replace("INFO:root:", "").replace("Validation-accuracy=0.55000\n", "Validation-accuracy=0.55000"),
    ],
)
def test_the_same_lines_in_other_dress(read, content):
    (run,) = read(content)
    assert validations(run) == [(0, 45), (1, 35)]
    assert run.curve("train") == [(0, pytest.approx(50)), (1, pytest.approx(40))]
    assert not run.notes


def test_workers_that_are_marked_are_a_run_each(read):
    lines = [PLAIN.splitlines(), PLAIN.replace("0.5", "0.7").replace("0.6", "0.8").splitlines()]
    nodes = [[f"2018-01-01 00:00:00,000 Node[{k}] {line[10:]}" for line in mine] for k, mine in enumerate(lines)]
    mixed = [*nodes[0][:4], *nodes[1][:2], *nodes[0][4:], *nodes[1][2:]]
    runs = read("\n".join(mixed) + "\n")
    assert [run.name for run in runs] == ["a Node[0]", "a Node[1]"]
    assert [validations(run) for run in runs] == [[(0, 45), (1, 35)], [(0, 25), (1, 15)]]
    assert not any(run.notes for run in runs)


@pytest.mark.parametrize("form", ["[1,{}]<stderr>:{}", "worker {}: {}", "algo-{} | {}", "{}: {}"])
def test_marks_of_launchers(read, form):
    mixed = [form.format(k, line) for line in PLAIN.splitlines() for k in (0, 1)]
    runs = read("\n".join(mixed) + "\n")
    assert [validations(run) for run in runs] == [[(0, 45), (1, 35)]] * 2


def worker(base, epochs):
    for epoch in range(epochs):
        for batch in (50, 100, 150):
            accuracy = base + epoch / 100
            yield f"Epoch[{epoch}] Batch [{batch}]\tSpeed: {90 + base:.2f} samples/sec\tTrain-accuracy={accuracy:.6f}"
        yield f"Epoch[{epoch}] Train-accuracy={accuracy:.6f}"
        yield f"Epoch[{epoch}] Time cost={10 + base:.3f}"
        yield f"Epoch[{epoch}] Validation-accuracy={accuracy + 0.1:.6f}"


@pytest.mark.parametrize("seed", range(8))
def test_workers_that_are_not_marked_are_no_restarts(read, seed):
    chance, count, epochs = random.Random(seed), 3, 5
    left = [worker(0.3 + number / 100, epochs) for number in range(count)]
    lines = []
    while left:
        line = next(one := chance.choice(left), None)
        lines.append(line) if line else left.remove(one)
    (run,) = read("\n".join(lines) + "\n")
    assert validations(run) == [(epoch, 59 - epoch) for epoch in range(epochs)]  # of the one in the middle, their mean
    assert len(run.notes) == 1 and "taken for those of 3 workers" in run.notes[0]


def test_a_restart_tells_what_it_replaces(read):
    (run,) = read(PLAIN + LINES.format(2, 7) + LINES.format(1, 8))
    assert validations(run) == [(0, 45), (1, 15)]
    assert run.notes == [
        "line 13 goes back to epoch 1: of the lines before, the validation of 2 epochs from 1 to 2 is left out"
    ]


def test_a_process_that_crashes_again_and_again_is_no_crowd(read):
    (run,) = read(LINES.format(0, 5) + LINES.format(1, 6).split("INFO:root:Epoch[1] Train")[0] * 5 + LINES.format(1, 6))
    assert validations(run) == [(0, 45), (1, 35)] and not run.notes


def test_metrics_listed_one_after_another(read):
    def listed(name, values):
        return "".join(f"Epoch[{epoch}] Validation-{name}={value}\n" for epoch, value in enumerate(values))

    (run,) = read(
        "TOP1\n" + listed("accuracy", (0.1, 0.2, 0.3)) + "\nTop5\n" + listed("top_k_accuracy_5", (0.3, 0.5, 0.6))
    )
    assert validations(run) == [(0, 90), (1, 80), (2, 70)]
    assert validations(run, "top5") == [(0, 70), (1, 50), (2, 40)] and not run.notes


def test_batches_stand_in_for_an_epoch_that_is_nan(read):
    (run,) = read(PLAIN.replace("Epoch[1] Train-accuracy=0.60000", "Epoch[1] Train-accuracy=nan"))
    assert run.curve("train") == [(0, pytest.approx(50)), (1, pytest.approx(40))]
    assert run.notes == ["the training top1 of epoch 1 is nan: the mean of the batches stands in"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("0.4", "nan"), "top-1 error nan in epoch 1, the last (best 60.00%)"),
        (("nan", "-nan"), "top-1 error nan in epoch 1, the last (never a number)"),
        (("nan", "0.4"), "top-1 error 60.00% (best 60.00%)"),
        ((), "training top-1 error 40.00% (best 40.00%)"),
    ],
)
def test_what_is_no_number_is_told(read, values, told):
    lines = "".join(f"Epoch[{epoch}] Validation-accuracy={value}\n" for epoch, value in enumerate(values))
    (run,) = read("Epoch[0] Train-accuracy=0.5\nEpoch[1] Train-accuracy=0.6\n" + lines)
    assert curves.summary(run) == told
    last = curves.table([run], curves.View(("top1",))).splitlines()[1]
    assert ("nan" in last) == ("nan in" in told)


def test_metrics_json_with_null_is_nan(read):
    line = '{{"epoch": {}, "phase": "validation", "metrics": {{"accuracy": {}}}}}\n'
    (run,) = read(line.format(0, 0.5) + line.format(1, "null"))
    assert curves.summary(run) == "top-1 error nan in epoch 1, the last (best 50.00%)"


MIXUP = "INFO:root:[Epoch {}] train={} val={} loss=1.9 time: 15.2\n"


def test_rmse_of_mixup_is_no_accuracy(read):
    falling = MIXUP.format(0, 0.219, 0.44) + MIXUP.format(1, 0.199, 0.63)
    (named,) = read("python train_mixup_cifar10.py --lr 0.1\n" + falling)
    (seen,) = read(falling)
    (alone,) = read(MIXUP.format(0, 0.219, 0.44))
    for run in (named, seen, alone):
        assert run.curve("train") == [] and validations(run)[0] == (0, 56)
    assert named.curve("train", "rmse") == seen.curve("train", "rmse") == [(0, 0.219), (1, 0.199)]
    assert (named.notes, len(seen.notes), len(alone.notes)) == ([], 1, 1)
    (ordinary,) = read(MIXUP.format(0, 0.31, 0.44) + MIXUP.format(1, 0.42, 0.63))
    assert ordinary.curve("train")[-1] == (1, pytest.approx(58)) and not ordinary.notes


def test_accuracies_in_percent(read):
    (run,) = read(
        "Epoch[033] Batch [0049]/[2000]\tSpeed: 60.5 samples/sec\t accuracy=0.9\t loss=4.1\t lr=0.01\n"
        "[Epoch 033] training: accuracy=42.5\t loss=2.9\n"
        "[Epoch 033] validation: acc-top1=46.671196 acc-top5=76.970109 loss=2.841302\n"
    )
    assert (validations(run), validations(run, "top5")) == ([(33, 53.33)], [(33, 23.03)])
    assert run.curve("train") == [(33, pytest.approx(57.5))] and run.epochs[33].validation["loss"] == 2.841302
    assert run.notes == ["its accuracies are taken for percent, for they lie above 1"]


def test_an_error_is_never_beside_0_to_100(read):
    good = "".join(f"Epoch[{epoch}] Validation-accuracy=0.5\n" for epoch in range(30))
    (run,) = read(good + "Epoch[30] Validation-accuracy=9.5\nEpoch[31] Validation-accuracy=1.0000001\n")
    assert [value for _, value in run.curve("validation")] == [50] * 30 + [0]
    assert run.notes == ["validation top1 is no error between 0 and 100% in epoch 30: nan is put there"]


def test_the_horovod_form_of_gluoncv(read):
    (run,) = read(
        "INFO:root:Epoch[2] Batch[50] Loss[6.914]\n"
        "INFO:root:Epoch[2] Rank[0] Batch[50]\taccuracy=0.210000\tlr=0.400000\n"
        "INFO:root:Epoch[2] Rank[0] Batch[625]\tTime cost=75.25\tTrain-metric=0.250000\n"
        "INFO:root:Epoch[2]\tSpeed: 2125.75 samples/sec\n"
        "INFO:root:Epoch[2] Rank[0]\tValidation-accuracy=0.400000\tValidation-top_k_accuracy_5=0.700000\n"
    )
    assert (validations(run), validations(run, "top5")) == ([(2, 60)], [(2, 30)])
    epoch = run.epochs[2]
    assert epoch.train == {"top1": pytest.approx(75)}
    assert (epoch.seconds, epoch.speed, epoch.rate) == (75.25, 2125.75, 0.4)


def test_ranks_of_horovod_are_a_run_each(read):
    line = "Epoch[0] Rank[{}] Batch[9]\tTime cost=7.5\tTrain-accuracy=0.{}\n"
    runs = read(line.format(10, 3) + line.format(2, 4) + "Epoch[0]\tSpeed: 50.0 samples/sec\n")
    assert [(run.name, round(run.curve("train")[0][1])) for run in runs] == [("a Rank[2]", 60), ("a Rank[10]", 70)]
    assert [run.epochs[0].speed for run in runs] == [50, None]


@pytest.mark.parametrize(
    "line",
    [
        "Epoch[2] Validation-accuracy: 0.5\n",
        "Epoch[2] Validation-accuracy=None\n",
        "[Epoch 2] Train-acc: 0.5 | Val-acc: 0.4\n",
        "Epoch[2] Validation-accuracy=0.5",  # without an end
    ],
)
def test_a_validation_that_is_not_read_is_told(read, line):
    (run,) = read(PLAIN + line)
    assert validations(run) == [(0, 45), (1, 35)]
    assert len(run.notes) == 1 and "9" in run.notes[0]


def plain_values(text, form):
    """What a regular expression alone finds: the last value of each epoch."""
    found = {}
    for match in re.finditer(form, text):
        found[int(match[1])] = float(match[2])
    return found


@pytest.mark.parametrize(
    ("name", "form", "is_error", "metric"),
    [
        ("tornadomeet-resnet-18", r"Epoch\[(\d+)\] Validation-accuracy=([\d.]+)", False, "top1"),
        ("tornadomeet-resnet-50", r"Epoch\[(\d+)\] Validation-accuracy=([\d.]+)", False, "top1"),
        ("tornadomeet-resnet-50", r"Epoch\[(\d+)\] Validation-top_k_accuracy_5=([\d.]+)", False, "top5"),
        ("tornadomeet-resnet-164", r"Epoch\[(\d+)\] Validation-accuracy=([\d.]+)", False, "top1"),
        ("mxnet-fit-cifar10-resnet110", r"Epoch\[(\d+)\] Validation-accuracy=([\d.]+)", False, "top1"),
        ("gluoncv-cifar_resnet20_v2", r"\[Epoch (\d+)\].* val=([\d.]+)", False, "top1"),
        ("gluoncv-resnet50_v2", r"\[Epoch (\d+)\] validation: err-top1=([\d.]+)", True, "top1"),
        ("gluoncv-resnet50_v2", r"\[Epoch (\d+)\] validation: .*err-top5=([\d.]+)", True, "top5"),
    ],
)
def test_every_value_of_a_real_log_is_what_a_plain_search_finds(shared, name, form, is_error, metric):
    path = shared / f"logs/{name}.log"
    (run,) = logreader.read_all(path)
    values = plain_values(path.read_text(encoding="utf-8", errors="replace"), form)
    expected = {epoch: 100 * (value if is_error else 1 - value) for epoch, value in values.items()}
    assert dict(run.told("validation", metric)) == pytest.approx(expected) and len(expected) > 0
    assert not any("workers" in note for note in run.notes)


def test_logs_are_found_by_names_commas_and_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.log", "b.log", "c,d.log", "e[1].log"):
        (tmp_path / name).write_text("")

    def found(*names):
        return [str(path) for path in logtext.find_logs(names)]

    assert found("a.log", "b.log") == found("a.log,b.log") == found("a.log, b.log") == found("[ab].log")
    assert found("c,d.log") == ["c,d.log"] and found("e[1].log", "missing.log") == ["e[1].log", "missing.log"]
    assert found("*.log") == ["a.log", "b.log", "c,d.log", "e[1].log"]
    with pytest.raises(UserError, match="no file has a name of this pattern"):
        found("x*.log")
    with pytest.raises(UserError, match="names no log"):
        found(",")


def test_an_epoch_that_is_nan_in_one_run_is_nan_in_their_mean(read):
    runs = [read(PLAIN, "net-seed1.log")[0], read(PLAIN.replace("0.65000", "nan"), "net-seed2.log")[0]]
    (mean,), left_out = means.average({"net": runs})
    assert curves.summary(mean) == "top-1 error nan in epoch 1, the last (best 45.00%)" and not left_out
    row = aggregate.row("net", runs, "top1")
    assert math.isnan(row["last mean"]) and row["best max"] == 45


def test_a_comma_in_a_number_is_not_the_end_of_it(read):
    """``0,55000`` is no 0, which would be an error of 100%."""
    (run,) = read(PLAIN + "INFO:root:Epoch[2] Validation-accuracy=0,75000\n")
    assert validations(run) == [(0, 45), (1, 35)]
    (note,) = run.notes
    assert "of a form that is not known tell of a validation: 1, the first is 9" in note


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_workers_that_are_whole_epochs_apart_are_no_restarts(read, count, lag):
    def epoch_of(number, epoch):
        return [line for line in worker(0.3 + number / 100, 6) if line.startswith(f"Epoch[{epoch}]")]

    lines = [
        line
        for step in range(6 + lag * (count - 1))
        for number in range(count)
        if 0 <= step - lag * number < 6
        for line in epoch_of(number, step - lag * number)
    ]
    (run,) = read("\n".join(lines) + "\n")
    assert [value for _, value in run.told("validation")] == pytest.approx(
        [60 - epoch - (count - 1) / 2 for epoch in range(6)]
    )
    assert len(run.notes) == 1 and f"taken for those of {count} workers" in run.notes[0]


def test_workers_that_are_restarted_are_as_many_as_before(read):
    def start(first, base):
        return [
            f"Epoch[{epoch}] Validation-accuracy={base + k / 100}\n"
            for epoch in range(first, first + 5)
            for k in (0, 1, 2)
        ]

    (run,) = read("".join(start(0, 0.2) + start(3, 0.6)))
    assert validations(run) == [(epoch, 79 if epoch < 3 else 39) for epoch in range(8)]
    assert run.notes[-1].endswith("the validation of 2 epochs from 3 to 4 is left out") and "of 6 workers" not in str(
        run.notes
    )


def test_a_process_that_crashes_in_each_epoch_is_no_crowd(read):
    lines = "".join(
        LINES.format(epoch, epoch) + LINES.format(epoch + 1, 9).split("INFO:root:Epoch[1] Train")[0]
        for epoch in (1, 3, 5)
    )
    (run,) = read(LINES.format(0, 1) + lines)
    assert not any("workers" in note for note in run.notes)


def test_validations_within_an_epoch(read):
    lines = "Epoch[{0}] Batch [{1}]\tSpeed: 9 samples/sec\taccuracy=0.3\nEpoch[{0}] Validation-accuracy=0.{0}{1}\n"
    (run,) = read("".join(lines.format(epoch, batch) for epoch in (4, 5, 6) for batch in (20, 40, 60)))
    assert validations(run) == [(4, 54), (5, 44), (6, 34)]
    assert run.notes == ["of an epoch's validations the last is drawn, and 6 within epochs are left out"]


def test_a_figure_beside_every_metric_is_no_restart(read):
    (run,) = read("Epoch[0] Validation-accuracy=0.6 rank=0\nEpoch[0] Validation-top_k_accuracy_5=0.9 rank=0\n")
    assert (validations(run), validations(run, "top5"), run.notes) == ([(0, 40)], [(0, 10)], [])


@pytest.mark.parametrize("value", ["1.#QNAN", "-1.#IND00", "1.#INF", "nan", "-Infinity", "1.5", "-0.3", "45"])
def test_a_validation_that_is_no_share_is_nan(read, value):
    (run,) = read("".join(f"Epoch[{k}] Validation-accuracy={told}\n" for k, told in enumerate(["0.4", "0.5", value])))
    assert curves.summary(run) == "top-1 error nan in epoch 2, the last (best 50.00%)"


def test_percent_in_one_phase_alone(read):
    (run,) = read("Epoch[0] Train-accuracy=0.5\nEpoch[0] Validation-accuracy=45.3\n")
    assert (run.curve("train"), run.curve("validation")) == ([(0, 50)], [(0, pytest.approx(54.7))])
    assert run.notes == ["accuracies of validation are taken for percent, for they lie above 1"]


def test_many_restarts_are_one_sentence(read):
    (run,) = read("".join(f"Epoch[{9 - k}] Validation-accuracy=0.5\n" for k in range(10)))
    (note,) = run.notes
    assert note.startswith("the log goes back 9 times, first in line 2: ") and "9 epochs from 1 to 9" in note


def test_a_line_without_end_is_told(read):
    (run,) = read(
        PLAIN + "Epoch[2] Validation-accuracy=0.5" + " epoch val=" * 10**6 + "\n" + "worker 1 " * 10**6 + "\n"
    )
    assert validations(run)[-1] == (2, 50)
    told = "lines of more than {} letters are read so far: {}, the first is 9"
    assert run.notes == [told.format("100,000", 2), told.format("10,000", 1)]
