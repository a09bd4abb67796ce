"""Shared fixtures: small real data, and the data that lies beside a developer's checkout."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import runs  # which imports mxnet_resnet before any `import mxnet`

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Published checkpoints, graphs and logs; skips the test where they are not."""
    if not SHARED.is_dir():
        pytest.skip("there is no ../shared/data")
    return SHARED


@pytest.fixture(scope="session")
def command():
    """Run a command of the repository in this process: (status, standard output, standard error)."""

    def run(capsys, script: str, *arguments: object) -> tuple[int, str, str]:
        before = sys.argv
        sys.argv = [script, *map(str, arguments)]
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        finally:
            sys.argv = before
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The handwritten digits as records."""
    out = tmp_path_factory.mktemp("digits")
    before = sys.argv
    sys.argv = ["digits2rec.py", "--out", str(out)]
    try:
        with pytest.raises(SystemExit):
            runpy.run_path(str(REPOSITORY / "tools" / "digits2rec.py"), run_name="__main__")
    finally:
        sys.argv = before
    return out


@pytest.fixture(scope="session")
def trained(digits, tmp_path_factory) -> Path:
    """The folder of a run on the digits: a depth-8 net after three epochs, ``model/net`` and ``log/net/train.log``."""
    from mxnet_resnet import options, trainer

    folder = tmp_path_factory.mktemp("run")
    trainer.train(options.parse(runs.train_arguments(digits, folder, "--epochs", "3", "--frequent", "10", *runs.WELL)))
    return folder


@pytest.fixture(scope="session")
def three_epochs(digits, tmp_path_factory) -> Path:
    """The folder of a run of three short epochs."""
    folder = tmp_path_factory.mktemp("three_epochs")
    runs.run(digits, folder, "--epochs", "3")
    return folder


@pytest.fixture
def start(tmp_path):
    """Start a command; whatever it has become, it is killed after the test."""
    from processes import Started

    started = []

    def run(command: list[str], **environment: str):
        started.append(Started(command, tmp_path / f"output-{len(started)}", **environment))
        return started[-1]

    yield run
    for process in started:
        process.kill()


@pytest.fixture
def job(start):
    """Start a job by hand, without the launcher: processes by role."""
    from mxnet_resnet import launcher

    def run(script: Path, first: tuple[str, ...] = (), second: tuple[str, ...] = (), **environment: str) -> dict:
        """Start all; ``first`` goes before the commands, but ``second`` before that of the second worker."""
        shared = {
            "DMLC_PS_ROOT_URI": "127.0.0.1",
            "DMLC_PS_ROOT_PORT": str(launcher._free_port()),
            "DMLC_NUM_WORKER": "2",
            "DMLC_NUM_SERVER": "1",
            **environment,
        }
        found: dict[str, list] = {"scheduler": [], "server": [], "worker": []}
        for role, before in (("scheduler", first), ("server", first), ("worker", first), ("worker", second)):
            found[role].append(start([*before, sys.executable, script], DMLC_ROLE=role, OMP_NUM_THREADS="1", **shared))
        return found

    return run
