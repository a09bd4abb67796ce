"""`tools/aggregate.py`: many seeds to a line."""

import csv
import math

import pytest

LINES = """\
INFO:root:Namespace(depth=20, seed={seed})
INFO:root:50000 training images in a.rec
INFO:root:{size} parameters
INFO:root:Epoch[0] Train-accuracy=0.5
INFO:root:Epoch[0] Validation-accuracy={first}
INFO:root:Epoch[1] Train-accuracy=0.6
INFO:root:Epoch[1] Validation-accuracy={last}
"""


@pytest.fixture
def log(tmp_path):
    def write(name: str, first: float, last: float, size: int = 272474, lines: str = LINES):
        path = tmp_path / name / "train.log"
        path.parent.mkdir()
        path.write_text(lines.format(seed=name[-1], first=first, last=last, size=size))
        return path

    return write


def test_seeds_become_a_line_with_their_spread(command, capsys, log, tmp_path):
    logs = [log(f"net-seed{seed}", 0.95, last) for seed, last in ((1, 0.91), (2, 0.92), (3, 0.94))]
    logs.append(log("other", 0.5, 0.4))
    status, out, _ = command(capsys, "tools/aggregate.py", "--logs", *logs, "--csv", tmp_path / "table.csv")
    assert status == 0
    deviation = math.sqrt(((9 - 23 / 3) ** 2 + (8 - 23 / 3) ** 2 + (6 - 23 / 3) ** 2) / 2)
    assert (
        out.splitlines()[2]
        == f"| net | 3 | 2 | 272,474 | 7.67 ± {deviation:.2f} | 6.00 | 9.00 | 5.00 ± 0.00 | 5.00 | 5.00 |"
    )
    assert out.splitlines()[3] == "| other | 1 | 2 | 272,474 | 60.00 | 60.00 | 60.00 | 50.00 | 50.00 | 50.00 |"
    first, second = csv.DictReader((tmp_path / "table.csv").open())
    assert (first["runs"], first["n"], first["last std"]) == ("net", "3", f"{deviation:.4f}")
    assert (second["last mean"], second["last std"], second["parameters"]) == ("60.0", "", "272474")


def test_logs_of_this_project_tell_the_parameters(command, capsys, trained):
    status, out, _ = command(capsys, "tools/aggregate.py", "--logs", trained / "log/net/train.log")
    assert status == 0 and "| net | 1 | 3 | 78,109 |" in out


def test_a_run_does_not_count_twice(command, capsys, trained):
    logs = (trained / "log/net/train.log", trained / "log/net/metrics.jsonl")
    status, _, err = command(capsys, "tools/aggregate.py", "--logs", *logs)
    assert status == 2 and err == f"error: {logs[0]} and {logs[1]} are the same run, which would count twice\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"lines": LINES.partition("INFO:root:Epoch[1]")[0]}, "different numbers of epochs: 1, 2"),
        ({"size": 99}, "different nets: of 99, 272474 parameters"),
        ({"lines": "INFO:root:Epoch[0] Train-accuracy=0.5\n"}, "tells no top1 of a validation"),
    ],
)
def test_runs_that_do_not_belong_together_are_told(command, capsys, log, second, message):
    logs = [log("net-seed1", 0.8, 0.9), log("net-seed2", 0.8, 0.9, **second)]
    status, _, err = command(capsys, "tools/aggregate.py", "--logs", *logs)
    assert status == 2 and message in err and err.count("\n") == 1


def test_logs_by_a_pattern_and_a_seed_that_ends_in_nan(command, capsys, log, tmp_path):
    log("net-seed1", 0.95, 0.91)
    log("net-seed2", 0.95, math.nan)
    status, out, _ = command(capsys, "tools/aggregate.py", "--logs", tmp_path / "*/train.log")
    row = "| net | 2 | 2 | 272,474 | nan ± nan | nan | nan | 5.00 ± 0.00 | 5.00 | 5.00 |"
    assert status == 0 and out.splitlines()[2] == row


def test_a_seed_that_is_nan_throughout_is_left_out_and_named(command, capsys, log, tmp_path):
    for name, values in {
        "net-seed1": (0.95, 0.91),
        "net-seed2": (math.nan, math.nan),
        "gone": (math.nan, math.nan),
    }.items():
        log(name, *values)
    status, out, err = command(capsys, "tools/aggregate.py", "--logs", tmp_path / "*/train.log")
    assert status == 0 and out.splitlines()[2:] == [
        "| net | 1 | 2 | 272,474 | 9.00 | 9.00 | 9.00 | 5.00 | 5.00 | 5.00 |"
    ]
    assert "left out: net-seed2: the validation tells no top1 but nan; net counts 1 of 2 runs\n" in err
    assert "left out: gone: the validation tells no top1 but nan; gone has no line in the table\n" in err
    status, _, err = command(capsys, "tools/aggregate.py", "--logs", tmp_path / "gone/train.log")
    assert status == 2 and err.startswith("error: no run is left for the table: gone: ") and err.count("\n") == 1
