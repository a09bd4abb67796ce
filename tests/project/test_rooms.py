"""The rooms of the package: what imports what, and what works where neither MXNet nor PyTorch can be imported."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from mxnet_resnet.__main__ import list_commands
from tests.helpers import REPOSITORY
from tests.helpers.pictures import save_classes

# A room imports from floors below its own. The package itself, torch.py and __main__ are the door, above all rooms.
FLOORS = (("base",), ("plans", "data", "runs"), ("plot", "settings", "engines"), ("train", "use"), ("commands",))
DOOR = ("", "torch", "__main__")
FRAMEWORKS = {"mxnet": "engines.mxnet", "dmlc_tracker": "engines.mxnet", "torch": "engines.torch"}

WITH_NUMPY_ALONE = """
from pathlib import Path
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.reader import TrainingRecords
from mxnet_resnet.runs import entries, ledger, params

path = Path("animals.rec")
records = TrainingRecords(path, recordio.scan(path), (3, 16, 16), 4, augment.LEVELS[2], 0, True, 0)
batches = list(records.epoch(0))
assert all(batch.images.shape == (4, 3, 16, 16) and batch.images.std() > 10 for batch in batches)
assert sorted(label for batch in batches for label in batch.labels) == [0] * 5 + [1] * 7

prefix = "{repository}/log/results/cifar10-fast-seed1/cifar10-fast-seed1"
entry = entries.read(prefix, ledger.best(prefix))
assert (entry.epoch, entry.step, entry.arguments["data-type"]) == (19, 7429, "cifar10")

source, copy = Path(prefix + "-0019.params"), Path("copy.params")
arrays = params.read(source)
assert arrays["arg:fc1_weight"].shape == (10, 128)
params.write(copy, arrays)
assert copy.read_bytes() == source.read_bytes()
"""
NETS_WITH_NUMPY_ALONE = """
from mxnet_resnet.use import reading

net = reading.read_known("{repository}/log/results/cifar10-fast-seed1/cifar10-fast-seed1")
assert net.plan.dimensions == ((1, 16), (2, 32), (2, 64), (2, 128)), net.plan
assert (net.classes, net.plan.preact, net.plan.data_norm) == (10, True, "shift")
assert net.params["fc1_weight"].shape == (10, 128) and "bn_data_moving_mean" in net.statistics
"""
HELP_OF_EACH = """
import contextlib, io, sys
from mxnet_resnet.__main__ import list_commands, main

for name in list_commands():
    sys.argv = ["mxnet-resnet", name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main()
    assert "usage: " in printed.getvalue(), name
    print(name)
"""
TO_IMPORT = """
import os, sys, warnings
import numpy

def state():
    return dir(numpy), dict(os.environ), list(warnings.filters)

before = state()
import mxnet_resnet
import mxnet_resnet.torch
assert "ResNet50" in dir(mxnet_resnet) and mxnet_resnet.__version__
assert "ResNet50" in dir(mxnet_resnet.torch)
assert state() == before
assert not {"mxnet", "torch", "distutils"} & set(sys.modules)
"""
GPU_TESTS = """
import sys
import pytest
sys.modules.update(dict.fromkeys(["mxnet", "gluoncv", "plotly", "sklearn"]))  # None: as if they were not installed
sys.exit(pytest.main(["-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider"]))
"""


def read_imports() -> Iterator[tuple[str, str]]:
    """Each module of the package with each that it imports, functions' imports and those for types included."""
    paths = {}
    for path in (REPOSITORY / "mxnet_resnet").rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module} has a relative import"
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from ((module, name if name in paths else node.module) for name in names)


def find_fault(module: str, imported: str) -> str | None:
    """What is wrong with an import, in a sentence."""
    package, _, inside = imported.partition(".")
    place = module.partition(".")[2]
    if only := FRAMEWORKS.get(package):
        return None if f"{place}.".startswith(f"{only}.") else f"{module} imports {imported}, as only {only} may"
    if package != "mxnet_resnet":
        return None
    floor = {room: number for number, rooms in enumerate((*FLOORS, *zip(DOOR)), 1) for room in rooms}
    room, other = place.partition(".")[0], inside.partition(".")[0]
    for engine in FRAMEWORKS.values():
        strangers = {*FRAMEWORKS.values()} - {engine} | {"train"}
        if f"{inside}.".startswith(f"{engine}.") and any(f"{place}.".startswith(f"{name}.") for name in strangers):
            return f"{module} imports {imported}: it knows engines by their contract alone"
    if room == other or floor[other] < floor[room]:
        return None
    return f"{module} (floor {floor[room]}) imports {imported} (floor {floor[other]})"


def test_imports_go_down_and_frameworks_stay_in_their_engines():
    if faults := {find_fault(*arrow) for arrow in read_imports()} - {None}:
        pytest.fail("\n".join(sorted(faults)))


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for module, imported in read_imports():
        graph.setdefault(module, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_plan_of_the_code_names_what_there_is():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| `(\w+)/` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted((str(floor), room) for floor, rooms in enumerate(FLOORS, 1) for room in rooms)
    named = {path for path in re.findall(r"`([\w/.*]+(?:\.py|/))`", page) if "NAME" not in path}
    package = REPOSITORY / "mxnet_resnet"
    places = (REPOSITORY, package, *(package / room for rooms in FLOORS for room in rooms))
    assert not [path for path in named if not any(any(place.glob(path)) for place in places)]


@pytest.fixture
def alone(tmp_path):
    """Run Python in a folder where neither framework can be imported: what it prints on each stream, and its status."""
    absent = tmp_path / "absent"
    absent.mkdir()
    for framework in FRAMEWORKS:
        (absent / f"{framework}.py").write_text(f"raise ModuleNotFoundError('not here', name={framework!r})")

    def run(*arguments: object) -> tuple[str, str, int]:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(absent), str(REPOSITORY)))},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout, done.stderr, done.returncode

    for framework in FRAMEWORKS:
        assert "not here" in run("-c", f"import {framework}")[1]
    return run


def test_records_runs_and_parameters_need_no_framework(alone, tmp_path):
    save_classes(tmp_path / "photos", cat=5, dog=7)
    assert alone("-m", "mxnet_resnet", "im2rec", "animals", "photos")[2] == 0
    found, _, status = alone("-m", "mxnet_resnet", "check_rec", "animals.rec")
    assert status == 0 and "12" in found
    assert alone("-c", WITH_NUMPY_ALONE.replace("{repository}", str(REPOSITORY)))[1:] == ("", 0)


def test_known_nets_are_read_without_a_framework(alone):
    assert alone("-c", NETS_WITH_NUMPY_ALONE.replace("{repository}", str(REPOSITORY))) == ("", "", 0)


def test_plotting_needs_no_framework(alone, tmp_path):
    log = REPOSITORY / "log" / "digits.log"
    printed, _, status = alone("-m", "mxnet_resnet", "plot_curve", "--logs", log, "--out", "curve.png")
    assert status == 0 and printed.startswith("top-1 error 0.56%") and (tmp_path / "curve.png").stat().st_size > 10_000


def test_the_help_of_every_command_needs_no_framework(alone):
    assert alone("-c", HELP_OF_EACH) == ("".join(f"{name}\n" for name in list_commands()), "", 0)


@pytest.mark.parametrize(
    "command",
    [
        "train --data-type digits",
        "train --data-type digits --eval-only --model-prefix {prefix}",
        "predict --img x.png --prefix {prefix}",
        "convert {prefix} x.params",
        "export --prefix {prefix} --epoch best --to folded --out x",
        "model_table",
        "launch -n 1 true",
    ],
)
def test_what_needs_mxnet_says_so(alone, command):
    command = command.format(prefix=REPOSITORY / "log/results/cifar10-fast-seed1/cifar10-fast-seed1")
    printed, told, status = alone("-m", "mxnet_resnet", *command.split())
    assert (printed, status) == ("", 2) and told.startswith("error: MXNet is not installed: pip install")


def test_gpu_tests_need_no_more_than_an_image_of_pytorch_has():
    collect = [sys.executable, "-c", GPU_TESTS]
    done = subprocess.run(collect, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "test_gpus.py::test_the_driver_shows" in done.stdout


def test_nets_on_pytorch_say_that_they_need_it(alone):
    _, told, status = alone("-c", "from mxnet_resnet.torch import ResNet50")
    assert status == 1 and "UserError: PyTorch is not installed: pip install torch" in told


def test_importing_the_package_changes_nothing(alone):
    assert alone("-c", TO_IMPORT) == ("", "", 0)
