"""Who computes: the engine that `--engine` and the devices give, and what is said of it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mxnet_resnet import engines
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines import gpus
from mxnet_resnet.engines.gpus import Refusal
from mxnet_resnet.settings import flags
from mxnet_resnet.settings.run import parse
from mxnet_resnet.use import chosen
from tests.helpers import REPOSITORY

HOPPER = Refusal("GPU 0 has compute capability 9.0, and this one is older", "use another GPU")
AN_H100_WITH_BOTH = """
import sys
from types import SimpleNamespace
from mxnet_resnet import engines
from mxnet_resnet.engines import gpus

class TorchEngine:
    def __init__(self, reason):
        self.reason = reason
    def load(self):
        pass
    def choose_devices(self, gpus, cpus):
        pass

engines.is_installed = lambda framework: True
gpus.list_capabilities = lambda: ((9, 0),)
gpus._has_wheel = lambda: True
sys.modules["mxnet_resnet.engines.torch.engine"] = SimpleNamespace(TorchEngine=TorchEngine)
print(engines.choose().reason)
print(*(name for name in ("mxnet", "mxnet_resnet.engines.mxnet", "torch") if name in sys.modules))
"""


class TorchEngine:
    """PyTorch that sees as many GPUs as ``seen``."""

    seen = 0
    name = "torch"

    def __init__(self, reason: str = ""):
        self.reason = reason

    def load(self, soon_done: bool = False) -> None:
        pass

    def choose_devices(self, gpus, cpus):
        if max(gpus) >= self.seen:
            raise UserError(f"PyTorch sees {self.seen} GPUs")


@pytest.fixture
def machine(monkeypatch):
    """Make a machine: the frameworks that are installed, why each GPU cannot serve MXNet, and how many PyTorch sees."""

    def make(*installed: str, refusals: tuple = (), seen: int = 0) -> None:
        monkeypatch.setattr(engines, "is_installed", lambda framework: framework in installed)
        monkeypatch.setattr(gpus, "list_capabilities", lambda: ((8, 0),) * len(refusals))
        monkeypatch.setattr(
            gpus, "find_refusal", lambda index: (*refusals, Refusal(f"there is no GPU {index}", ""))[index]
        )
        monkeypatch.setattr(TorchEngine, "seen", seen)
        module = SimpleNamespace(TorchEngine=TorchEngine)
        monkeypatch.setitem(sys.modules, "mxnet_resnet.engines.torch.engine", module)

    return make


def test_an_engine_that_is_asked_for_is_given(machine):
    machine("mxnet", "torch", refusals=(HOPPER,), seen=1)
    assert engines.choose("mxnet", [0]).name == "mxnet"
    machine("mxnet", "torch", refusals=(None,))
    torch = engines.choose("torch")
    assert (torch.name, torch.reason) == ("torch", "")


def test_there_is_no_other_engine(machine):
    with pytest.raises(UserError, match="there is no engine 'jax': the engines are auto, mxnet, torch"):
        engines.choose("jax")


def test_the_flag_offers_the_engines_that_there_are():
    assert flags.ENGINES == engines.ENGINES


def test_pytorch_that_is_not_installed_is_refused(machine):
    machine("mxnet")
    with pytest.raises(UserError, match=r"PyTorch is not installed: pip install .*requirements-torch\.txt"):
        engines.choose("torch")


def test_pytorch_where_mxnet_is_not_installed(machine):
    machine("torch")
    for gpus_asked, cpus in ((None, None), ([], None), ([0], None), (None, 2)):
        engine = engines.choose("auto", gpus_asked, cpus)
        assert (engine.name, engine.reason) == ("torch", "Computing with PyTorch, since MXNet is not installed")


@pytest.mark.parametrize("installed", [(), ("mxnet",)])
def test_mxnet_where_pytorch_is_not_installed(machine, installed):
    machine(*installed, refusals=(HOPPER,), seen=1)
    assert engines.choose("auto", [0]).name == "mxnet"


def test_mxnet_on_the_cpu(machine):
    """Also where PyTorch could have a GPU: the CPU was asked for, or the driver shows none."""
    machine("mxnet", "torch", refusals=(HOPPER,), seen=1)
    assert engines.choose("auto", []).name == engines.choose("auto", (), None).name == "mxnet"
    assert engines.choose("auto", None, 2).name == "mxnet"
    machine("mxnet", "torch", seen=1)
    assert engines.choose().name == "mxnet"


def test_mxnet_on_the_gpus_that_it_can_use(machine):
    machine("mxnet", "torch", refusals=(None, None, HOPPER), seen=3)
    for asked in (None, [0], [1, 0]):
        engine = engines.choose("auto", asked)
        assert (engine.name, engine.reason) == ("mxnet", "")


def test_pytorch_on_the_gpus_that_mxnet_cannot_use(machine):
    machine("mxnet", "torch", refusals=(HOPPER,), seen=1)
    for asked in (None, [0]):
        engine = engines.choose("auto", asked)
        assert (engine.name, engine.reason) == ("torch", f"Computing with PyTorch, since {HOPPER.why}")
    machine("mxnet", "torch", refusals=(None, HOPPER), seen=2)
    assert engines.choose("auto", [0, 1]).name == "torch"


def test_gpus_that_neither_can_use_are_refused_unless_the_cpu_will_do(machine):
    machine("mxnet", "torch", refusals=(HOPPER,), seen=0)
    assert engines.choose().name == "mxnet"
    with pytest.raises(
        UserError, match=f"MXNet cannot serve, since {HOPPER.why}; nor can PyTorch: PyTorch sees 0 GPUs"
    ):
        engines.choose("auto", [0])


def test_choosing_pytorch_leaves_the_process_to_it():
    """Neither MXNet nor what makes a process ready for it, CUDA 11's libraries among that, has been loaded."""
    done = subprocess.run(
        [sys.executable, "-c", AN_H100_WITH_BOTH], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    has = "GPU 0 has compute capability 9.0, and mxnet-cu112 1.9.1 holds code for 5.0 to 8.9 only"
    assert (done.stdout, done.stderr) == (f"Computing with PyTorch, since {has}\n\n", "")


def test_commands_tell_once_why_it_is_not_mxnet(machine, capsys):
    machine("torch")
    chosen.open_engine("auto", None)
    assert capsys.readouterr().err == "Computing with PyTorch, since MXNet is not installed\n"
    machine("mxnet", "torch", refusals=(None,))
    chosen.open_engine("torch", 0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("flag", ["--kv-store dist_sync", "--kv-store dist_async", "--data-backend imagerecorditer"])
def test_what_mxnet_alone_has_is_computed_by_it_or_refused(flag):
    assert parse(flag.split()).devices.engine == "mxnet"
    with pytest.raises(UserError, match=f"{flag} is MXNet's, and --engine is torch: "):
        parse(["--engine", "torch", *flag.split()])


def test_pytorch_has_the_stores_of_one_machine_in_its_own_way():
    for store in ("local", "device", "nccl"):
        assert parse(["--engine", "torch", "--kv-store", store]).devices.engine == "torch"
    assert parse([]).devices.engine == "auto"


def test_train_takes_the_engine_of_its_flags(machine, command, capsys):
    machine("mxnet")
    told = command(capsys, "train_resnet.py", "--engine", "torch", "--data-type", "digits")
    assert told == (2, "", f"error: {engines.NO_TORCH}\n")


@pytest.mark.parametrize("name", ["predict", "evaluate", "explain"])
def test_commands_take_the_engine_of_their_flags(machine, command, capsys, name):
    machine("mxnet")
    data = ("--data", "x.rec") if name == "evaluate" else ()
    told = command(capsys, f"predict/{name}.py", "--engine", "torch", *data)
    assert told == (2, "", f"error: {engines.NO_TORCH}\n")


def test_auto_is_pytorch_in_a_worker_that_torchrun_started(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert engines.choose().name == "torch" and "torchrun" in engines.choose().reason
    monkeypatch.setenv("MXNET_RESNET_REASON", "")  # our own launcher: --engine torch was asked for
    assert engines.choose().reason == ""
    with pytest.raises(UserError, match="torchrun starts workers of PyTorch"):
        engines.choose("mxnet").prepare("device", None)


def test_workers_that_torchrun_has_not_started_do_not_train_alone(monkeypatch):
    from mxnet_resnet.engines.torch.engine import TorchEngine

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="WORLD_SIZE is 2, and torchrun has not started this process"):
        TorchEngine().prepare("device", None)
