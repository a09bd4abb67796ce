"""Which GPUs serve MXNet: made-up drivers, distributions and MXNets; none of this needs a GPU, or loads MXNet."""

import ctypes

import pytest

from mxnet_resnet.engines import gpus

MXNET = """
import os, signal, time
from types import SimpleNamespace

def gpu(index):
    return f"gpu({index})"

class MXNetError(RuntimeError):
    pass

def ones(shape, ctx):
    print("noise of the log")
    BODY

runtime = SimpleNamespace(Features=lambda: SimpleNamespace(is_enabled=lambda name: name == "CUDA" and CUDA))
nd = SimpleNamespace(ones=ones)
"""
NO_KERNEL = """raise MXNetError(
        'Traceback (most recent call last):\\n  File "ndarray.cu", line 9\\n'
        'MXNetError: Check failed: e == cudaSuccess (209 vs. 0) : no kernel for ' + ctx + '\\nStack trace:\\n  [bt]'
    )"""


class Driver:
    """libcuda.so.1 with GPUs of these compute capabilities."""

    def __init__(self, *capabilities: tuple[int, int], status: int = 0):
        self.capabilities = capabilities
        self.status = status

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.capabilities)
        return 0

    def cuDeviceGetAttribute(self, value, number, device):
        value._obj.value = self.capabilities[device][{75: 0, 76: 1}[number]]
        return 0


@pytest.fixture(autouse=True)
def forgotten():
    """Neither what a test found is kept, nor what was found before."""
    for function in (gpus.list_capabilities, gpus.find_refusal):
        function.cache_clear()
    yield
    for function in (gpus.list_capabilities, gpus.find_refusal):
        function.cache_clear()


@pytest.fixture
def driver(monkeypatch):
    """Put a driver in."""
    return lambda *capabilities, **more: monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(*capabilities, **more))


@pytest.fixture
def distribution(monkeypatch, tmp_path):
    """Install a distribution of that name and version."""

    def install(name: str, version: str) -> None:
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Install an MXNet of no known distribution: ``body`` is what its ``ones`` does, on ``ctx``."""

    def install(body: str = "", cuda: bool = True) -> None:
        (tmp_path / "build/mxnet").mkdir(parents=True)
        text = MXNET.replace("BODY", body).replace("CUDA)", f"{cuda})")
        (tmp_path / "build/mxnet/__init__.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / "build")

    return install


def test_the_driver_tells_compute_capabilities(driver):
    driver((8, 9), (9, 0))
    assert gpus.list_capabilities() == ((8, 9), (9, 0))


def test_a_driver_that_does_not_start_shows_no_gpu(driver):
    driver((8, 9), status=100)
    assert gpus.list_capabilities() == ()


def test_a_machine_without_a_driver_shows_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpus.list_capabilities() == ()
    assert gpus.find_refusal(0) == ("there is no GPU 0", "the NVIDIA driver shows none")


def test_a_gpu_that_the_driver_does_not_show(driver):
    driver((8, 9), (8, 9))
    assert gpus.find_refusal(2) == ("there is no GPU 2", "the NVIDIA driver shows 2")


@pytest.mark.parametrize("capability", [(5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9)])
def test_gpus_the_wheel_has_code_for(driver, distribution, build, capability):
    build("raise AssertionError('it is not to be tried')")
    distribution("mxnet-cu112", "1.9.1")
    driver(capability)
    assert gpus.find_refusal(0) is None


@pytest.mark.parametrize("capability", [(3, 7), (9, 0), (10, 0), (12, 0)])
def test_gpus_the_wheel_has_no_code_for(driver, distribution, build, capability):
    build("raise AssertionError('it is not to be tried')")
    distribution("mxnet-cu112", "1.9.1")
    driver((8, 6), capability)
    assert gpus.find_refusal(0) is None
    has = f"GPU 1 has compute capability {capability[0]}.{capability[1]}"
    assert gpus.find_refusal(1).why == f"{has}, and mxnet-cu112 1.9.1 holds code for 5.0 to 8.9 only"


@pytest.mark.parametrize("name, version", [("mxnet-cu112", "1.9.1+nv23.07"), ("mxnet-cu120", "1.9.1")])
def test_another_build_is_tried(driver, distribution, build, name, version):
    """NVIDIA's MXNet 1.9.1 computes on a GPU that the wheel has no code for."""
    build("return SimpleNamespace(asnumpy=lambda: SimpleNamespace(sum=lambda: 4.0))")
    distribution(name, version)
    driver((9, 0))
    assert gpus.find_refusal(0) is None


@pytest.mark.parametrize(
    "body, cause",
    [
        (NO_KERNEL, "MXNetError: Check failed: e == cudaSuccess (209 vs. 0) : no kernel for gpu(1)"),
        ("raise ImportError('no libcudart')", "ImportError: no libcudart"),
        ("return SimpleNamespace(asnumpy=lambda: SimpleNamespace(sum=lambda: 0.0))", "it miscalculates"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "it was killed by SIGABRT"),
        ("os._exit(3)", "it said nothing"),
    ],
)
def test_a_build_that_fails(driver, build, body, cause):
    build(body)
    driver((9, 0), (9, 0))
    assert gpus.find_refusal(1).why == f"this MXNet failed to compute on GPU 1 ({cause})"


def test_a_build_that_hangs(driver, build, monkeypatch):
    monkeypatch.setattr(gpus, "TRIAL_SECONDS", 1)
    build("time.sleep(600)")
    driver((9, 0))
    assert gpus.find_refusal(0).why == "this MXNet failed to compute on GPU 0 (it took more than 1 s)"


def test_a_build_for_the_cpu_says_so(driver, build):
    build("raise AssertionError('there is nothing to try')", cuda=False)
    driver((8, 6))
    assert gpus.find_refusal(0).why == "GPU 0 cannot serve this MXNet, which is built for the CPU only"


def test_a_build_is_tried_once(driver, build, tmp_path):
    build(f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); raise ValueError('no')")
    driver((9, 0))
    assert gpus.find_refusal(0) == gpus.find_refusal(0)
    assert (tmp_path / "tries").read_text() == "x"


def test_a_trial_takes_no_part_in_a_job(driver, build, monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")  # an MXNet that is imported so serves, and never ends
    build("raise ValueError(os.environ.get('DMLC_ROLE'))")
    driver((9, 0))
    assert "(ValueError: None)" in gpus.find_refusal(0).why


def test_an_installed_mxnet_for_the_cpu_is_asked_as_any_other(driver):
    """The real one, in a process of its own, where it is installed."""
    mxnet = pytest.importorskip("mxnet")
    if mxnet.runtime.Features().is_enabled("CUDA"):
        pytest.skip("this MXNet is built for GPUs")
    driver((8, 6))
    assert "built for the CPU only" in gpus.find_refusal(0).why


@pytest.mark.gpu
def test_the_driver_shows_the_gpus_that_pytorch_sees():
    cuda = pytest.importorskip("torch").cuda
    assert gpus.list_capabilities() == tuple(map(cuda.get_device_capability, range(cuda.device_count())))
