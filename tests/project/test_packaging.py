"""The installed project: its commands behind one, the names of the library, what is in the wheel and what it needs."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import mxnet_resnet
from mxnet_resnet import __main__ as door
from mxnet_resnet.base.errors import UserError
from tests.helpers import REPOSITORY

PROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
PACKAGES = {"cv2": "opencv-python-headless", "dmlc_tracker": "mxnet", "PIL": "pillow", "sklearn": "scikit-learn"}
PACKAGES["yaml"] = "pyyaml"


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
    assert {PACKAGES.get(name, name) for name in others} <= needed


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
