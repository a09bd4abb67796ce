"""The benchmarks of a GPU, tried out on the CPU: what they compute of figures, and that they run."""

import argparse
import json
import sys
import time

import pytest
from benchmarks import gpu, gpu_board, gpu_nets, gpu_runs, gpu_ways, sidebyside

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import recordio
from mxnet_resnet.settings import flags

RECORDS = gpu_nets.Records("train.rec", "val.rec")


@pytest.fixture
def board():
    return gpu_board.Board(time.perf_counter() + 1000, gpu_ways.REFERENCES)


def test_depths_are_of_the_nets_that_torch_resnet_has():
    """18 is the net for small images here, unlike in `train`, where depths are of the MXNet ResNet-v2."""
    small, large = (gpu_nets.describe_run((depth, 2), []) for depth in (18, 50))
    assert small.net.plan.small_images and small.data.image_shape == (3, 32, 32) and small.data.pad == 4
    assert not large.net.plan.small_images and large.data.image_shape == (3, 224, 224)
    assert gpu_nets.title((18, 128)) == "PreActResNet18 (small images), 128"


@pytest.mark.parametrize(("depth", "side"), [(20, 32), (50, 224)])
def test_records_are_as_many_as_asked_for_and_of_one_size(tmp_path, depth, side):
    from mxnet_resnet.data.decoding import decode

    records = gpu_nets.write_records(tmp_path / "new", (depth, 2), 40)
    assert (recordio.scan(records.train).count, recordio.scan(records.val).count) == (40, 8)
    file = recordio.RecordFile(records.train, recordio.scan(records.train).offsets)
    assert {decode(file.read(number).image).shape for number in range(0, 40, 7)} == {(side, side, 3)}


def test_the_command_is_what_a_user_types(tmp_path):
    run = gpu_runs.Run((50, 256), compilation="max-autotune")
    command = run.command(RECORDS, tmp_path)
    assert "--gpus 0 --dtype bfloat16 --data-type imagenet --network preact_resnet50" in " ".join(command)
    assert "--compile max-autotune --seed 111" in " ".join(command)
    several = " ".join(gpu_runs.Run((20, 128), 3, device="cpu").command(RECORDS, tmp_path))
    assert "--gpus none" in several and "--seeds 111,222,333" in several and "--seed " not in several
    mxnet = gpu_runs.Run((20, 128), engine="mxnet", dtype="float16", compilation="").command(RECORDS, tmp_path)
    assert "--compile" not in mxnet and flags.given(mxnet[2:])["engine"] == "mxnet"


def test_seeds_at_once_count_together():
    """Two seeds of 100 images an epoch: the first epoch, which compiles, is left out."""
    one = [{"images": 100, "seconds": seconds} for seconds in (50.0, 2.0, 2.0)]
    other = [{"images": 100, "seconds": seconds} for seconds in (50.0, 4.0, 2.0)]
    assert gpu_runs.compute_speed([one], at_once=True) == 50
    assert gpu_runs.compute_speed([one, other], at_once=True) == pytest.approx(400 / 6)
    assert gpu_runs.compute_speed([one, other], at_once=False) == pytest.approx(400 / 10)


def test_times_are_those_of_the_log():
    log = [
        (8.0, "INFO:root:Compiled in 23.5 s"),
        (9.0, "INFO:root:Epoch[0] Learning rate=0.01"),
        (12.0, 'INFO:root:Saved checkpoint to "net-0001.params"'),
        (15.0, "INFO:root:Epoch[0] Validation-accuracy=0.1"),
        (20.0, 'INFO:root:Saved checkpoint to "net-0002.params"'),
        (20.5, "INFO:root:Epoch[1] Validation-accuracy=0.1"),
        (20.6, "INFO:root:Epoch[1] Validation-cross-entropy=2.3"),
    ]
    assert gpu_runs.read_times(log, 1) == {"compiled": 23.5, "started": 9.0, "validated": 0.5}
    assert "validated" not in gpu_runs.read_times(log, 5)  # whose lines are mixed


def test_a_command_that_fails_or_takes_too_long_is_told():
    with pytest.raises(UserError, match=r"^ours failed: no such net$"):
        gpu_runs.watch("ours", [sys.executable, "-c", "import sys; sys.exit('error: no such net')"], 20)
    with pytest.raises(UserError, match=r"^ours took more than 0 s$"):
        gpu_runs.watch("ours", [sys.executable, "-c", "import time; time.sleep(60)"], 0.3)
    lines = gpu_runs.watch("ours", [sys.executable, "-c", "import sys; print('here', file=sys.stderr)"], 20)
    assert [line for _, line in lines] == ["here"]


def test_what_fails_is_left_out_and_the_others_are_measured(board, capsys):
    def fail(seconds):
        raise UserError("the GPU is hot")

    board.measure((20, 128), gpu_board.TRAINING, "ours", 5, lambda seconds: {"images/s": 3000.0, "compiled": 12.0})
    board.measure((20, 128), gpu_board.TRAINING, "broken", 1, fail)
    board.measure((20, 128), gpu_board.TRAINING, gpu_ways.EXAMPLE, 1, lambda seconds: {"images/s": 1500.0})
    printed = capsys.readouterr()
    assert "PreActResNet20, 128: training, ours, 5 seeds: 3,000 images/s (compiled in 12 s)" in printed.out
    assert printed.err == "left out: the GPU is hot\n" and board.failed == ["the GPU is hot"]
    assert "| ours | 5 | 3,000 | 2.00 | 12.0 |  |" in board.report() and not board.late


def test_what_there_is_no_time_for_is_named_and_no_failure(board, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_ways, "Contender", None)  # none is started
    board.ends = time.perf_counter() + 5
    gpu_ways.measure_ways(board, (164, 128), [1, 5], "gpu", 2)
    board.measure((18, 128), gpu_board.TRAINING, "ours", 1, lambda seconds: {"images/s": 1.0})
    board.write({"GPU": "one"}, tmp_path / "figures.json", tmp_path / "tables.md")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert (written["figures"], written["failed"], written["environment"]) == ([], [], {"GPU": "one"})
    assert "PreActResNet18 (small images), 128: training, ours, 1 seed" in written["no time for"]
    assert "- GPU: one" in (tmp_path / "tables.md").read_text()


def test_a_run_that_the_end_cuts_off_is_no_failure(board):
    def compute(seconds):
        board.ends = time.perf_counter() - 1
        raise UserError("it took more than 9 s")

    board.measure((20, 128), gpu_board.TRAINING, "ours", 1, compute)
    assert not board.failed and board.late == ["PreActResNet20, 128: training, ours, 1 seed"]


def test_the_most_telling_comes_first(board, monkeypatch, tmp_path, capsys):
    order = []
    monkeypatch.setattr(gpu, "measure_training", lambda board, folder, run: order.append((run.net, run.seeds, run)))
    monkeypatch.setattr(gpu, "measure_ways", lambda board, net, seeds, *_: order.append((net, seeds)))
    monkeypatch.setattr(gpu, "find_mxnet_hindrances", lambda device: [])
    given = dict(nets=[(20, 128), (50, 256)], seeds=[1, 5], compile="yes,no", device="gpu", seconds=1)
    for job in gpu.list_jobs(argparse.Namespace(**given), board, tmp_path):
        job()
    cifar, imagenet = (20, 128), (50, 256)
    assert [one[:2] for one in order[:3]] == [(cifar, 1), (cifar, [1, 5]), (cifar, 5)]
    assert [one[:2] for one in order[3:5]] == [(imagenet, 1), (imagenet, [1])]  # it fills a GPU by itself
    assert [(run.engine, run.dtype, run.compilation) for *_, run in order[5:]] == [
        *[("mxnet", "float16", "")] * 2,
        *[("torch", "bfloat16", "no")] * 2,
    ]


@pytest.mark.parametrize(
    "given",
    [
        "gpu --nets 9:8",
        "gpu --seeds none",
        "gpu --compile maybe",
        "profile --net 20:2,50:2",
        "gpu --seeds 1,1",
        "gpu --markdown /",
        "profile --json /",
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is(command, capsys, given):
    status, out, err = command(capsys, "tools/benchmark.py", *given.split())
    assert status == 2 and "error:" in err and "Traceback" not in err and "GPU" not in err and not out


def test_a_process_that_fails_before_it_is_ready_is_told(monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("import sys; print('a word'); sys.exit('error: no GPU')")
    monkeypatch.setattr(sidebyside, "MODULE", "broken")
    monkeypatch.setattr(sidebyside, "TOOLS", tmp_path)
    contender = sidebyside.Contender("it", [])
    try:
        with pytest.raises(UserError, match=r"^it failed: no GPU$"):
            contender.wait_until_ready(20)
    finally:
        contender.end()


def test_a_process_that_takes_too_long_is_ended(monkeypatch, tmp_path):
    (tmp_path / "slow.py").write_text("print('ready', flush=True); import time; time.sleep(60)")
    monkeypatch.setattr(sidebyside, "MODULE", "slow")
    monkeypatch.setattr(sidebyside, "TOOLS", tmp_path)
    contender = sidebyside.Contender("it", [])
    try:
        contender.wait_until_ready(20)
        with pytest.raises(UserError, match=r"^it took more than 0 s$"):
            contender.measure(0.3)
    finally:
        contender.end()


def test_our_prediction_is_measured(board, monkeypatch):
    pytest.importorskip("torch")
    ours = [way for way in gpu_ways.WAYS if way.function == "own_prediction"]
    monkeypatch.setattr(gpu_ways, "WAYS", ours)
    gpu_ways.measure_ways(board, (20, 2), [1], "cpu", 1)
    assert not board.failed and board.figures[0]["images/s"] > 0


@pytest.mark.slow
def test_every_way_is_measured(board):
    pytest.importorskip("torch_resnet")
    gpu_ways.measure_ways(board, (20, 2), [1, 2], "cpu", 1)
    assert not board.failed
    found = {(figure["task"], figure["way"], figure["seeds"]) for figure in board.figures}
    assert len(found) == 6 and (gpu_board.TRAINING, gpu_ways.BEST, 2) in found
    assert all(figure["images/s"] > 0 for figure in board.figures)


def test_our_training_is_measured_through_its_command(tmp_path):
    pytest.importorskip("torch")
    records = gpu_nets.write_records(tmp_path / "records", (20, 4), 8)
    found = gpu_runs.measure(gpu_runs.Run((20, 4), device="cpu", compilation="no"), "ours", records, tmp_path, 100)
    assert found["images/s"] > 0 and 0 < found["validated"] < found["started"] < found["seconds"]


def test_a_trace_is_read():
    kernels = pytest.importorskip("benchmarks.kernels", reason="there is no PyTorch", exc_type=ImportError)
    events = [
        {"cat": "kernel", "name": "sm90_xmma_fprop_implicit_gemm", "ts": 0.0, "dur": 10.0},
        {"cat": "kernel", "name": "triton_poi_fused__to_copy_add_1", "ts": 5.0, "dur": 10.0},  # on another stream
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 20.0, "dur": 5.0},
        {"cat": "gpu_user_annotation", "name": "ProfilerStep#1", "ts": 0.0, "dur": 99.0},
        {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 0.0, "dur": 3.0},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 3.0, "dur": 3.0},
        {"name": "a mark", "ts": 3.0},
    ]
    trace = kernels.read_trace(events)
    assert (len(trace.kernels), trace.launches) == (3, 1)
    assert trace.busy == pytest.approx(20e-6)
    kinds = [kernels.find_kind(kernel.name) for kernel in trace.kernels]
    assert kinds == ["convolution and product", "BatchNorm and pointwise", "copies"]


def test_the_work_of_a_step_grows_with_its_images():
    """Of PreActResNet20 40.8 million multiply-adds an image, by docs/models.md, three times in training."""
    torch = pytest.importorskip("torch")
    from benchmarks import work

    from mxnet_resnet import engines
    from mxnet_resnet.engines.base import TrainingSpec
    from mxnet_resnet.plans import architecture

    engine, plan = engines.choose("torch"), architecture.find("preact_resnet20")
    spec = TrainingSpec(10, (3, 32, 32), 128, lambda step: 0.01)
    found = work.count_work(engine, plan, spec)
    assert found.operations == pytest.approx(128 * 6 * 40.8e6, rel=0.02)
    with work.Traffic() as traffic:
        one = torch.ones(100)
        (one.view(10, 10) + 1).relu_()
    assert traffic.bytes == 400 + 800 + 800  # made; read and written; read and written in place; none for the view


def test_a_profile_tells_what_bounds_a_step(tmp_path, capsys, command):
    pytest.importorskip("torch")
    given = f"profile --device cpu --net 20:2 --steps 1 --dtype float32 --compile no --json {tmp_path}/profile.json"
    status, out, _ = command(capsys, "tools/benchmark.py", *given.split())
    assert status == 0 and "| arithmetic alone |" in out and "| convolution and product |" in out
    figures = json.loads((tmp_path / "profile.json").read_text())
    by_kind, by_kernel = (sum(one["seconds"] for one in figures[key].values()) for key in ("by kind", "by kernel"))
    assert by_kind == pytest.approx(by_kernel) == pytest.approx(figures["busy"])
