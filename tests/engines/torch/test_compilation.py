"""When a net is compiled, how, and that it computes the same."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mxnet_resnet.base.errors import UserError  # noqa: E402
from mxnet_resnet.data.batch import Batch  # noqa: E402
from mxnet_resnet.engines.base import TrainingSpec  # noqa: E402
from mxnet_resnet.engines.torch import compilation  # noqa: E402
from mxnet_resnet.engines.torch.compilation import Compilation  # noqa: E402
from mxnet_resnet.engines.torch.group import ProcessGroup  # noqa: E402
from mxnet_resnet.engines.torch.training import TrainingModel  # noqa: E402
from mxnet_resnet.plans import architecture  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = replace(architecture.symbolic_v2(20, "cifar"), dimensions=((1, 4), (1, 4), (1, 6)))
BATCH = Batch(
    np.random.default_rng(0).uniform(0, 255, (8, 3, 16, 16)).astype(np.float32), np.arange(8, dtype=np.float32), 8
)


def specify(batch_size=128, image_shape=(3, 32, 32), **more):
    return TrainingSpec(10, image_shape, batch_size, lambda step: 0.01, **{"steps": 100_000, **more})


@pytest.fixture
def able(monkeypatch):
    """A machine that can compile for a GPU."""
    monkeypatch.setattr(compilation, "find_obstacle", lambda device: "")
    monkeypatch.setattr(compilation, "try_compiler", lambda device: "")


@pytest.mark.parametrize(
    "name, batch_size, image_shape, speed",
    [
        ("preact_resnet20", 128, (3, 32, 32), 60_798),
        ("preact_resnet164", 128, (3, 32, 32), 7_881),
        ("preact_resnet18", 128, (3, 32, 32), 41_929),
        ("preact_resnet50", 256, (3, 224, 224), 4_430),
    ],
)
def test_a_run_is_estimated_as_an_h100_was_seen_to_take_it(name, batch_size, image_shape, speed):
    """Images/s of such nets as one CUDA graph in bfloat16 that is not compiled."""
    plan = architecture.find(name)
    plan = replace(plan, small_images=image_shape[1] == 32)
    estimated = compilation.estimate_seconds(plan, specify(batch_size, image_shape, steps=1))
    assert estimated == pytest.approx(batch_size / speed, rel=0.25)


def test_long_runs_on_a_gpu_are_compiled(able):
    plan = architecture.symbolic_v2(20, "cifar")  # 2 ms a step
    assert compilation.choose(plan, specify(steps=20_000), GPU, 1) == ""
    assert compilation.choose(plan, specify(steps=60_000), GPU, 1) == Compilation(None, whole=True)
    assert compilation.choose(plan, specify(), CPU, 1) == ""
    assert compilation.choose(plan, specify(compilation="no"), GPU, 1) == ""
    assert compilation.choose(plan, specify(compilation="yes", steps=1), CPU, 1) == Compilation(None, whole=True)
    tuned = compilation.choose(plan, specify(compilation="max-autotune"), GPU, 1)
    assert tuned == Compilation("max-autotune-no-cudagraphs", whole=True)


def test_deep_nets_and_those_of_several_workers_are_compiled_unit_by_unit(able):
    units = {20: True, 56: False, 164: False}
    for depth, whole in units.items():
        assert compilation.choose(architecture.symbolic_v2(depth, "cifar"), specify(), GPU, 1).whole is whole
    resnet50 = architecture.symbolic_v2(50, "imagenet")
    given = specify(256, (3, 224, 224))
    assert compilation.choose(resnet50, given, GPU, 1).whole
    assert not compilation.choose(resnet50, given, GPU, 2).whole


def test_what_hinders_compiling_is_told_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    told = compilation.choose(SMALL, specify(), GPU, 1)
    assert told == "Slower than it could be: to compile the net needs Triton: pip install triton"
    with pytest.raises(UserError, match="--compile yes needs Triton: pip install triton"):
        compilation.choose(SMALL, specify(compilation="yes"), GPU, 1)
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"--compile yes needs a compiler, such as g\+\+"):
        compilation.choose(SMALL, specify(compilation="yes"), CPU, 1)
    monkeypatch.setenv("CXX", "/usr/bin/mine")
    assert compilation.choose(SMALL, specify(compilation="yes"), CPU, 1)
    with pytest.raises(UserError, match="--compile yes and --memonger do not go together"):
        compilation.choose(SMALL, specify(compilation="yes", memonger=True), CPU, 1)
    assert compilation.choose(SMALL, specify(memonger=True), GPU, 1) == ""


def test_a_compiler_that_does_not_work_holds_nobody_up_who_has_not_asked_for_it(monkeypatch):
    def fail(*given, **more):
        raise RuntimeError("Python.h is missing\nand much more")

    monkeypatch.setattr(compilation, "find_obstacle", lambda device: "")
    monkeypatch.setattr(torch, "compile", fail)
    told = compilation.choose(SMALL, specify(), GPU, 1)
    assert told.endswith("to compile the net needs a compiler that works, and this says: Python.h is missing")
    assert isinstance(compilation.choose(SMALL, specify(compilation="yes"), GPU, 1), Compilation)


@pytest.mark.slow
def test_a_compiler_is_tried():
    assert compilation.try_compiler(CPU) == ""


class Wrapped(RuntimeError):
    """As PyTorch wraps what its compiler raises: the first line says nothing."""

    inner_exception = RuntimeError("no such kernel\nand much more")


@pytest.mark.parametrize("error", [RuntimeError("no such kernel\nand much more"), Wrapped("backend raised:\nmore")])
def test_what_cannot_be_compiled_ends_in_one_sentence(monkeypatch, error):
    def fail(*given):
        raise error

    monkeypatch.setattr(compilation, "compile_function", lambda function, mode: fail)
    with pytest.raises(UserError, match=r"cannot be compiled: no such kernel: --compile no trains it as it is$"):
        begin("yes")


def begin(wanted, seed=0, plan=SMALL):
    model = TrainingModel(plan, specify(8, BATCH.images.shape[1:], compilation=wanted, seed=seed), CPU)
    return model.start(ProcessGroup(), None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("whole, said", [(True, "Compiled the whole net in "), (False, "Compiled unit by unit in ")])
def test_a_compiled_net_is_the_net(monkeypatch, caplog, whole, said):
    """And it is compiled once, whatever the seeds."""
    monkeypatch.setattr(compilation, "MOST_UNITS", 20 if whole else 1)
    caplog.set_level("INFO")
    plain, compiled = begin("no"), begin("yes")
    assert [record.message.startswith(said) for record in caplog.records] == [True]
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    begin("yes", seed=1)
    assert len(caplog.records) == 1
    for number in range(3):
        expected, found = (session.step(BATCH, number).result() for session in (plain, compiled))
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert compiled.validate(BATCH).result().loss == pytest.approx(plain.validate(BATCH).result().loss, rel=1e-3)
    for name, array in plain.snapshot().statistics.items():
        np.testing.assert_allclose(compiled.snapshot().statistics[name], array, rtol=1e-2, atol=1e-3, err_msg=name)
