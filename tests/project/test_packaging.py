"""The installed project: its commands behind one, the names of the library, what is in the wheel and what it needs."""

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mxnet_resnet
from mxnet_resnet import __main__ as door
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines import gpus
from tests.helpers import REPOSITORY

PROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PACKAGES = {"cv2": "opencv-python-headless", "dmlc_tracker": "mxnet", "PIL": "pillow", "sklearn": "scikit-learn"}
PACKAGES["yaml"] = "pyyaml"
REPLACED = {"opencv-python": "opencv-python-headless"}  # GluonCV asks for the one with windows


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `mxnet-resnet` in this process: (status, standard output)."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mxnet-resnet", *arguments])
        try:
            status = door.main()
        except SystemExit as ended:
            status = ended.code
        return status or 0, capsys.readouterr().out

    return run


def test_commands_are_listed_with_what_they_do(run):
    status, printed = run("--help")
    assert status == 0 and (2, printed) == run()
    lines = dict(re.findall(r"^  (\w+) +(.+)$", printed, re.MULTILINE))
    assert lines["train"] == "Train a ResNet-v2 on RecordIO images"
    assert lines["plot_curve"] == "Plot training curves from logs"
    assert {path.stem for path in (REPOSITORY / "mxnet_resnet/commands").glob("[a-z]*.py")} == set(lines)


def test_a_command_has_its_name_in_its_help(run):
    assert run("check-rec", "--help")[1].startswith("usage: mxnet-resnet check-rec ")
    assert run("check_rec", "--help")[1].startswith("usage: mxnet-resnet check_rec ")
    assert run("--version") == (0, f"mxnet-resnet {mxnet_resnet.__version__}\n")
    with pytest.raises(UserError, match=r"^there is no command 'trian': the commands are aggregate, "):
        run("trian")


def test_the_library_names_its_nets():
    assert set(mxnet_resnet.__all__) < set(dir(mxnet_resnet))
    assert all(callable(getattr(mxnet_resnet, name)) for name in mxnet_resnet.__all__)
    assert "PreActWideResNet50_2" in mxnet_resnet.__all__ and mxnet_resnet.PreActWideResNet50_2.__name__
    names: dict = {}
    exec("from mxnet_resnet import *", names)
    assert names.keys() - {"__builtins__"} == set(mxnet_resnet.__all__)
    with pytest.raises(AttributeError, match="'mxnet_resnet' has no attribute 'ResNet19'"):
        mxnet_resnet.ResNet19  # noqa: B018


def test_whatever_is_imported_is_a_dependency_or_an_extra():
    imported = set()
    for path in (REPOSITORY / "mxnet_resnet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    others = imported - sys.stdlib_module_names - {"mxnet_resnet"} if sys.version_info >= (3, 10) else set()
    needed = set(re.findall(r'"([A-Za-z-]+)[><=]', PROJECT))
    assert {PACKAGES.get(name, name) for name in others} <= needed | {"mxnet"}  # which is installed without its needs


def test_the_wheel_is_complete(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "mxnet_resnet", source / "mxnet_resnet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if name.startswith("mxnet_resnet/")}
        (points,) = (name for name in packed.namelist() if name.endswith("entry_points.txt"))
        assert "mxnet-resnet = mxnet_resnet.__main__:enter" in packed.read(points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in packed.namelist())
    package = REPOSITORY / "mxnet_resnet"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert names == {path.relative_to(REPOSITORY).as_posix() for path in files}
    assert wheel.name.startswith(f"mxnet_resnet-{mxnet_resnet.__version__}-")


def read_pins(file: str, python: str) -> dict[str, str]:
    """The versions that a file of requirements and those it includes pin for a Python, by the package's name."""
    pins: dict[str, str] = {}
    for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
        text = re.sub(r"#.*|^-c .*", "", line).strip()
        if text.startswith("-r "):
            found = read_pins(text[len("-r ") :], python)
        elif text:
            required = Requirement(text)
            (pin,) = required.specifier
            assert pin.operator == "==", text
            holds = required.marker is None or required.marker.evaluate({"python_version": python})
            found = {canonicalize_name(required.name): pin.version} if holds else {}
        else:
            continue
        assert not [name for name in found if pins.get(name, found[name]) != found[name]], f"{file}: {text}"
        pins.update(found)
    return pins


def read_needs(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with these extras."""
    lists = [re.search(r"^dependencies = \[\n(.*?)^\]", PROJECT, re.MULTILINE | re.DOTALL)[1]]
    lists += [re.search(rf"^{extra} = \[(.*)\]$", PROJECT, re.MULTILINE)[1] for extra in extras]
    return [Requirement(text) for found in lists for text in re.findall(r'"(.+?)"', found)]


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("file, engine", [("requirements.txt", "mxnet"), ("requirements-torch.txt", "torch")])
def test_the_pinned_versions_are_what_the_project_asks_for(file, engine, python):
    pins = read_pins(file, python)
    for need in read_needs(engine):
        if need.marker is None or need.marker.evaluate({"python_version": python}):
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), need
    others = {"mxnet": {"torch", "safetensors"}, "torch": {"mxnet", "gluoncv", "requests", "torch-resnet"}}
    assert not others[engine] & pins.keys()


def test_what_torch_brings_has_a_version_too():
    for python, cuda in (("3.9", "nvidia-cublas-cu12"), ("3.13", "nvidia-cublas")):
        assert {cuda, "triton"} <= read_pins("constraints-torch.txt", python).keys()
    assert "\n-c constraints-torch.txt\n" in (REPOSITORY / "requirements-torch.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("python", ["3.9", "3.13"])
def test_the_lists_that_are_installed_on_top_of_one_another_agree(python):
    pins = read_pins("requirements-torch.txt", python)
    more = read_pins("requirements-torch-dev.txt", python)
    assert {"mxnet", "torch-resnet", "pytest"} <= more.keys()
    assert not [name for name in pins.keys() & more.keys() if pins[name] != more[name]]


@pytest.mark.parametrize("python", ["3.9", "3.13"])
def test_the_list_for_gpus_is_that_for_the_cpu_with_another_mxnet(python):
    pins, more = (read_pins(file, python) for file in ("requirements.txt", "requirements-gpu.txt"))
    assert pins.items() - more.items() == {("mxnet", gpus.WHEEL_VERSION)}
    assert {name for name in more.keys() - pins.keys() if not name.startswith("nvidia-")} == {gpus.WHEEL}
    assert more[gpus.WHEEL] == gpus.WHEEL_VERSION


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-torch.txt"])
def test_the_pinned_versions_are_complete(file):
    """Whatever a package that is installed here needs is pinned too, since MXNet's list is installed alone."""
    pins = read_pins(file, f"{sys.version_info.major}.{sys.version_info.minor}")
    for name, version in pins.items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, found.requires or () if found.version.partition("+")[0] == version else ()):
            wanted = need.marker is None or need.marker.evaluate({"extra": ""})
            if wanted and not need.name.startswith(("nvidia-", "cuda-", "triton")):
                assert REPLACED.get(need.name, canonicalize_name(need.name)) in pins, f"{name} needs {need}"


def test_an_environment_there_is_not_is_refused_before_anything_is_set_up(tmp_path):
    for name in ("run.sh", "test.sh", "tools/environment.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    refused = {
        "there is no ENGINE=jax: take mxnet or torch": {"ENGINE": "jax"},
        "NEWEST=1 is for MXNet on the CPU": {"NEWEST": "1", "GPU": "1"},
    }
    for script, (message, variables) in itertools.product(("run.sh", "test.sh"), refused.items()):
        environment = {**os.environ, **variables}
        done = subprocess.run(["bash", tmp_path / script], env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert not list(tmp_path.glob(".venv*"))
