import os
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

LOADED = """
import mxnet_resnet.engines.mxnet, pathlib, sysconfig
from mxnet_resnet.engines import gpus
assert gpus._has_wheel()
maps = pathlib.Path("/proc/self/maps").read_text().split()
print(":".join(sorted({path for path in maps if "/nvidia/" in path})))
print(pathlib.Path(sysconfig.get_path("platlib"), "mxnet", "libmxnet.so"))
"""


@pytest.mark.slow
def test_the_gpu_wheel_finds_every_library_but_the_drivers(tmp_path):
    """Installs requirements-gpu.txt, 4 GB, into an environment of its own; needs no GPU and no driver."""
    python = tmp_path / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    install = [python, "-m", "pip", "install", "-qq", "--no-deps", "-r", REPOSITORY / "requirements-gpu.txt"]
    subprocess.run(install, check=True)
    without_path = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    shown = subprocess.run(
        [python, "-c", LOADED], cwd=REPOSITORY, env=without_path, check=True, capture_output=True, text=True
    )
    preloaded, library = shown.stdout.splitlines()
    assert preloaded.count(".so") >= 17
    found = subprocess.run(
        ["ldd", library], env={**without_path, "LD_PRELOAD": preloaded}, capture_output=True, text=True
    ).stdout
    assert [line.split()[0] for line in found.splitlines() if "not found" in line] == ["libcuda.so.1"]
