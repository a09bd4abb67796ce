"""Which devices PyTorch computes on, and why not on others."""

import pytest

torch = pytest.importorskip("torch")

from mxnet_resnet.base.errors import UserError  # noqa: E402
from mxnet_resnet.engines.torch import devices, precision  # noqa: E402


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that PyTorch sees GPUs of these compute capabilities, and has code for ``architectures``."""

    def pretend(*capabilities, architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_120")):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: "NVIDIA H100")

        def capability(device=0):
            return capabilities[device if isinstance(device, int) else device.index]

        monkeypatch.setattr(torch.cuda, "get_device_capability", capability)

    return pretend


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (12, 0)])
def test_gpus_with_code_serve(gpus, capability):
    gpus(capability)
    assert devices.refuse_gpu(0) is None


@pytest.mark.parametrize("capability", [(6, 1), (7, 0), (10, 0)])
def test_gpus_without_code_are_refused(gpus, capability):
    gpus(capability)
    major, minor = capability
    told = devices.refuse_gpu(0)
    assert told.startswith(
        f"GPU 0 has compute capability {major}.{minor}, and PyTorch {torch.__version__} holds code for"
    )
    assert "sm_120 only" in told


def test_ptx_serves_every_later_gpu_and_letters_are_no_digits(gpus):
    gpus((10, 0), (12, 1), (8, 6), architectures=("sm_80", "sm_90a", "compute_90"))
    assert [devices.refuse_gpu(index) is None for index in range(3)] == [True, True, True]
    gpus((8, 9), architectures=("sm_90a", "compute_90"))
    assert devices.refuse_gpu(0)


def test_gpus_are_chosen_by_their_numbers(gpus):
    gpus((9, 0), (9, 0))
    found = devices.choose([1, 0], None)
    assert [str(handle) for handle in found.handles] == ["cuda:1", "cuda:0"] and found.kind == "gpu"
    assert found.note == "Computing on GPU 1, 0 (NVIDIA H100)"
    assert str(devices.choose(None, None).handles[0]) == "cuda:0"
    with pytest.raises(UserError, match=r"there is no GPU 2: PyTorch .* sees 2"):
        devices.choose([0, 2], None)


def test_without_gpus_the_cpu_serves_and_the_log_says_why():
    if torch.version.cuda:
        pytest.skip("this PyTorch has CUDA")
    found = devices.choose(None, None)
    assert found.kind == "cpu" and "since PyTorch" in found.note and "built for the CPU only" in found.note
    with pytest.raises(UserError, match=r"GPU 0 cannot serve, since PyTorch .* is built for the CPU only"):
        devices.choose([0], None)
    assert len(devices.choose(None, 3)) == 3


def test_old_gpus_have_no_bfloat16(gpus):
    gpus((7, 5), (8, 0))
    precision.check_dtype("bfloat16", torch.device("cuda", 1))
    precision.check_dtype("float16", torch.device("cuda", 0))
    with pytest.raises(UserError, match=r"GPU 0 has no bfloat16, .*: take --dtype float16"):
        precision.check_dtype("bfloat16", torch.device("cuda", 0))
