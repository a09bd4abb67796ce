"""Shared fixtures: small data, commands, and the data that lies beside a developer's checkout."""

from __future__ import annotations

import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import REPOSITORY

SHARED = REPOSITORY.parent / "shared" / "data"

if find_spec("mxnet"):
    import_module("mxnet_resnet.engines.mxnet")  # before any `import mxnet`


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default="mxnet", choices=("mxnet", "torch"), help="who trains in tests/train")


def pytest_configure(config: pytest.Config) -> None:
    from tests.helpers import runs

    runs.ENGINE = config.option.engine


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, modules without such tests are not imported: a machine for PyTorch need not have MXNet."""
    if config.option.markexpr != "gpu" or not collection_path.name.startswith("test_"):
        return None
    return "mark.gpu" not in collection_path.read_text(encoding="utf-8") or None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    if item.get_closest_marker("mxnet") and item.config.option.engine != "mxnet":
        pytest.skip("this is so on MXNet alone")


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
    from tests.helpers import runs

    folder = tmp_path_factory.mktemp("run")
    runs.train(runs.train_arguments(digits, folder, "--epochs", "3", "--frequent", "10", *runs.WELL))
    return folder


@pytest.fixture(scope="session")
def three_epochs(digits, tmp_path_factory) -> Path:
    """The folder of a run of three short epochs."""
    from tests.helpers import runs

    folder = tmp_path_factory.mktemp("three_epochs")
    runs.run(digits, folder, "--epochs", "3")
    return folder


@pytest.fixture
def twelve(tmp_path) -> Path:
    """Twelve records, PNG and JPEG by turns, of four classes in no order."""
    from tests.helpers.pictures import jpeg, photograph, png
    from tests.helpers.recordfiles import written

    images = [(jpeg if i % 2 else png)(photograph(20 + i, 30 - i, i)) for i in range(12)]
    return written(tmp_path / "a", images, [3, 1, 0, 2, 1, 3, 2, 0, 0, 2, 3, 1])


@pytest.fixture
def im2rec(command, capsys):
    """Run tools/im2rec.py, which has to end with ``status``: its standard output, or error where that is not 0."""

    def run(*arguments, status=0) -> str:
        ended, out, err = command(capsys, "tools/im2rec.py", *arguments)
        assert ended == status, err
        if status == 2:
            assert err.startswith("error: ") and err.count("\n") == 1
        return err if status else out

    return run


@pytest.fixture(scope="session")
def tars(tmp_path_factory) -> Path:
    """The folder of archives.write_tars."""
    from tests.helpers import archives

    return archives.write_tars(tmp_path_factory.mktemp("tars"))


@pytest.fixture(scope="session")
def torch():
    pytest.importorskip("safetensors")
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def torch_resnet(torch):
    return pytest.importorskip("torch_resnet")


@pytest.fixture
def convert(command, capsys):
    """Run tools/convert.py: (status, standard output, standard error)."""
    return lambda *arguments: command(capsys, "tools/convert.py", *arguments)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A smooth coloured image (60, 80, 3), BGR, on which no channel and no corner is like another."""
    rows, columns = np.mgrid[:60, :80]
    return np.dstack([rows * 4, columns * 3, 255 - rows * 2 - columns]).astype(np.uint8)


@pytest.fixture
def start(tmp_path):
    """Start a command; whatever it has become, it is killed after the test."""
    from tests.helpers.processes import Started

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
    from mxnet_resnet.engines.mxnet import launcher

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
