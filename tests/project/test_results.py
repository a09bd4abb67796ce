"""The results that log/README.md tells are those of the logs that it links."""

import re

import pytest

from mxnet_resnet.plot import curves, logreader
from mxnet_resnet.runs import entries, ledger
from tests.helpers import REPOSITORY

LOGS = REPOSITORY / "log"
ROW = re.compile(r"^\| \[.+\]\((\S+)\) \| .* \| (\d+) \| (?:\S+ h)? *\| (\S+)% \| (\S+)% \| .*\|$", re.MULTILINE)
ROWS = ROW.findall((LOGS / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("log", "epochs", "last", "best"), ROWS)
def test_a_row_is_what_its_log_tells(log, epochs, last, best):
    run = logreader.read(LOGS / log)
    points = run.curve("validation", "top1")
    assert (points[-1][0] + 1, len(points)) == (int(epochs), int(epochs))
    assert (f"{points[-1][1]:.2f}", f"{curves.best_point(run, 'top1')[1]:.2f}") == (last, best)


def test_the_readme_and_the_recipe_tell_these_errors():
    readme, recipe = (REPOSITORY / name for name in ("README.md", "recipes/cifar10-fast.yaml"))
    errors = {log.split("/")[-2]: last for log, _, last, _ in ROWS if "/" in log}
    for run in ("cifar10-preact_resnet20-seed1", "cifar10-fast-seed1", "cifar10-resnet164-two-seed1"):
        assert f"| {errors[run]}% |" in readme.read_text(encoding="utf-8")
    assert f"# {errors['cifar10-fast-seed1']}% top-1 error, last epoch" in recipe.read_text(encoding="utf-8")


def test_every_log_has_a_row():
    found = {str(path.relative_to(LOGS)) for path in [*LOGS.glob("results/*/train.log"), LOGS / "digits.log"]}
    assert found == {log for log, *_ in ROWS}


def test_logs_and_checkpoints_are_small_and_whole():
    files = [path for path in LOGS.rglob("*") if path.is_file() and "results" in path.parts]
    assert sum(path.stat().st_size for path in files) < 20e6
    pointers = list(LOGS.glob("results/*/*-latest.json"))
    assert len(pointers) == 2
    for pointer in pointers:
        prefix = str(pointer).removesuffix("-latest.json")
        for name in ledger.names(prefix):
            entries.verify(prefix, entries.read(prefix, name))
