"""The benchmarks: what they compute of figures, and that each way of ours runs."""

import argparse
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from benchmarks import common, growth, io, io_readers, peak, startup, versus, way

from mxnet_resnet.base.errors import UserError


def test_the_exponent_is_that_of_the_larger_half():
    sizes = np.array([1, 2, 4, 8, 16, 32])
    exponent, factor = growth.law(sizes, np.where(sizes < 8, 100.0, 3.0 * sizes**1.5))
    assert (exponent, factor) == (pytest.approx(1.5), pytest.approx(3.0))


def test_ratios_are_of_the_same_round():
    """Not of the medians, 0.63 here: the second round was of a machine that was half as fast, for both."""
    ways = {"a": way.Way("A", "", ""), "b": way.Way("B", "", "")}
    runs = {
        "a": [{"images/s": 100.0, "MB": 10.0}, {"images/s": 50.0, "MB": 12.0}, {"images/s": 80.0, "MB": 11.0}],
        "b": [{"images/s": 50.0, "MB": 20.0}, {"images/s": 40.0, "MB": 20.0}, {"images/s": 72.0, "MB": 20.0}],
    }
    rows = versus.report(ways, runs, work=2.5).splitlines()[2:]
    assert rows == ["| A | 80.0 (50.0 to 100.0) | 1.00 | 200 | 11 |", "| B | 50.0 (40.0 to 72.0) | 0.80 | 125 | 20 |"]


def test_the_work_of_a_net():
    """ResNet-50 has 4.1 billion multiply-adds, as torchvision tells too; training has three times as many."""
    assert versus.gigaflop((50, 1), "infer") == pytest.approx(8.2, rel=0.02)
    assert versus.gigaflop((50, 1), "train") == pytest.approx(24.6, rel=0.02)


def test_ways_are_chosen():
    ways = way.TRAIN
    assert set(versus.chosen(ways, None, compare=False)) == {"ours-bfloat16", "ours-float32", "ours-memonger"}
    assert versus.chosen(ways, None, compare=True) == ways
    assert list(versus.chosen(ways, "zoo,original", compare=False)) == ["zoo", "original"]
    with pytest.raises(UserError, match="no way nets: there are ours-bfloat16, ours-float32, ours-memonger"):
        versus.chosen(ways, "zoo,nets", compare=False)


def test_a_way_that_is_not_here_is_left_out():
    assert not way.Way("", "", "", needs=("mxnet", "no_such_package")).goes(50)
    assert not way.Way("", "", "", hindrances=lambda: ["no"]).goes(50)
    assert way.TRAIN["zoo"].goes(50) and not way.TRAIN["zoo"].goes(164)


@pytest.mark.parametrize("name", ["train:ours-float32", "train:original", "infer:ours-float32", "infer:ours-int8"])
def test_a_way_runs_in_a_process_of_its_own(name):
    found = way.measure(name, (8, 4), 1)
    assert found["images/s"] > 0 and 50 < found["MB"] < 5000


def test_a_way_that_fails_is_told():
    with pytest.raises(UserError, match=r"^ours, float32, on ResNet-9, 4, failed: no CIFAR ResNet has depth 9"):
        way.measure("train:ours-float32", (9, 4), 1)
    with pytest.raises(UserError, match=r"^it was ended by SIGKILL$"):
        common.output("it", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(UserError, match=r"^the process that measured \(9,\) was killed"):
        common.in_process(os._exit, 9)


def test_what_is_not_installed_is_told_and_left_out(monkeypatch, capsys):
    nowhere = way.Way("PyTorch", "", "", needs=("nowhere",))
    here = way.Way("ours", "", "", needs=("mxnet",))
    monkeypatch.setitem(common.INSTALL, "nowhere", "pip install nowhere")
    monkeypatch.setitem(versus.TASKS, "train", {"ours-x": here, "nowhere": nowhere})
    monkeypatch.setattr(versus, "measure", lambda *_: {"images/s": 100.0, "MB": 10.0})
    arguments = argparse.Namespace(nets=[(18, 2)], ways=None, compare=True, seconds=1, rounds=1, json=None)
    assert versus.main(arguments, "train") == 0
    printed = capsys.readouterr()
    assert "left out: PyTorch: nowhere is not installed (pip install nowhere)" in printed.err
    assert "PyTorch" not in printed.out
    arguments.ways = "nowhere"
    with pytest.raises(UserError, match=r"^PyTorch: nowhere is not installed \(pip install nowhere\)$"):
        versus.main(arguments, "train")


def test_what_a_way_lacks_besides_packages_is_told(monkeypatch):
    monkeypatch.setattr("mxnet_resnet.engines.mxnet.compat.has_bfloat16", lambda: False)
    monkeypatch.setattr(way.shutil, "which", lambda name: None)
    assert way.TRAIN["ours-bfloat16"].lacks() == ["this CPU has no AVX512-BF16 for MXNet's bfloat16"]
    assert "g++ is not installed, with which PyTorch compiles" in way.INFER["compiled-float32"].lacks()
    assert not way.TRAIN["ours-bfloat16"].goes(20) and way.TRAIN["ours-float32"].goes(20)


def test_starting_tells_which_peers_are_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(common, "find_spec", lambda package: None)
    monkeypatch.setattr(startup, "OURS", {"nothing": ["true"]})
    monkeypatch.setattr(startup, "of_one_image", lambda folder, compare: {"theirs": ["false"]} if compare else {})
    startup.main(argparse.Namespace(compare=True, rounds=1, json=None))
    assert "; torch_resnet is not installed (pip install --no-deps torch-resnet==0.0.4)" in capsys.readouterr().err


def test_ways_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(versus, "measure", lambda name, *_: order.append(name) or {"images/s": 1.0, "MB": 1.0})
    arguments = argparse.Namespace(nets=[(18, 2)], ways="zoo,original", compare=False, seconds=1, rounds=2, json=None)
    versus.main(arguments, "train")
    assert order == ["train:zoo", "train:original"] * 2


def test_a_way_runs_in_its_environment(monkeypatch):
    monkeypatch.setattr(way, "output", lambda name, command, environment, folder: json.dumps(environment))
    assert way.measure("train:original", (8, 4), 1)["OMP_NUM_THREADS"] == str(max(way.CORES // 2, 1))
    assert way.measure("train:torch-float32", (20, 4), 1)["MALLOC_MMAP_MAX_"] == "0"


def test_a_way_that_fails_is_left_out_and_the_others_are_measured(monkeypatch, capsys, tmp_path):
    def measure(name, net, steps):
        if name == "train:zoo":
            raise UserError("the zoo is closed")
        return {"images/s": 100.0, "MB": 10.0}

    monkeypatch.setattr(versus, "measure", measure)
    arguments = argparse.Namespace(nets=[(18, 2)], ways="ours-float32,zoo", compare=False, seconds=1, rounds=2)
    arguments.json = tmp_path / "figures.json"
    assert versus.main(arguments, "train") == 1
    printed = capsys.readouterr()
    assert "left out: the zoo is closed" in printed.err and "| ours, float32 | 100.0 (100.0 to 100.0)" in printed.out
    written = json.loads(arguments.json.read_text())
    assert list(written["nets"][0]) == ["depth", "images", "ours-float32"]
    assert (written["environment"]["MXNet"], written["environment"]["seconds"]) == ("1.9.1", 1)
    arguments.nets = [(164, 2)]
    with pytest.raises(UserError, match="Gluon zoo, all cores: that cannot compute ResNet-164, 2 here"):
        versus.main(arguments, "train")


@pytest.mark.parametrize(
    "given",
    [
        "growth --depths 8,14",
        "growth --images 0,1,2",
        "train --nets 20:8,9:8",
        "loop --nets x",
        "peak --rounds 0",
        "infer --ways train",
    ],
)
def test_what_cannot_be_measured_is_told(command, capsys, given):
    status, _, err = command(capsys, "tools/benchmark.py", *given.split())
    assert status == 2 and "error:" in err and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in way.WAYS.items() if one.goes(18)])
def test_every_way_that_is_here_runs(name):
    assert way.measure(name, (18, 2), 1)["images/s"] > 0


def test_the_command_compares_and_writes(tmp_path):
    arguments = ["train", "--nets", "8:2", "--ways", "ours-float32", "--seconds", "1", "--rounds", "2"]
    command = [sys.executable, "tools/benchmark.py", *arguments, "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=common.ROOT)
    assert done.returncode == 0, done.stderr
    assert "ResNet-8, 2 images, images/s: medians (lowest to highest) of 2 rounds" in done.stdout
    (figures,) = json.loads((tmp_path / "figures.json").read_text())["nets"]
    assert (figures["depth"], figures["images"], len(figures["ours-float32"])) == (8, 2, 2)


def test_cost_grows_with_width():
    narrow, wide = (growth.measured("width", width, rounds=2) for width in (1, 3))
    assert len(narrow["seconds"]) == 2 and wide["MB"] > 2 * narrow["MB"] > 0
    assert growth.measured("images", 2, rounds=1)["MB"] < narrow["MB"]


def test_growth_is_drawn(tmp_path):
    figures = [{"size": size, "seconds": [size / 100] * 3, "MB": 10 * size} for size in (8, 14, 20)]
    growth.draw({axis: figures for axis in ("depth", "images", "width")}, tmp_path / "growth.png")
    assert cv2.imread(str(tmp_path / "growth.png")).shape[1] == 1650
    assert growth.report("depth", figures).splitlines()[-1] == "| exponent | 1.00 | 1.00 |"


def test_a_peak_is_of_the_work_that_is_done(monkeypatch):
    for name in ("SIDE", "IMAGES"):
        monkeypatch.setattr(peak, name, 64)
    works = peak.computations()
    assert all(peak.gigaflops(compute, work) > 0 for compute, work in works.values())
    assert works["product, int8"][1] == works["product, float32, NumPy"][1] == 2 * 64**3 / 1e9
    assert works["convolution, float32"][1] == 2 * 64 * 14**2 * 256 * (3 * 3 * 256) / 1e9


@pytest.mark.slow
def test_starting_is_timed(tmp_path):
    command = [sys.executable, "tools/benchmark.py", "startup", "--rounds", "1", "--json", str(tmp_path / "times.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=common.ROOT)
    assert done.returncode == 0, done.stderr
    times = json.loads((tmp_path / "times.json").read_text())
    assert times["python -c pass"] < times["train_resnet.py --help"] < times["predict.py, one image"]


def test_a_command_needs_no_mxnet_but_its_own():
    """`gpu` and `profile` run where there is none, and where getting ready for it would be in PyTorch's way."""
    code = (
        "import sys; sys.path.insert(0, 'tools'); import benchmark, benchmarks.gpu, benchmarks.profile;"
        "print([name for name in ('mxnet', 'mxnet_resnet.engines.mxnet', 'torch') if name in sys.modules])"
    )
    assert common.output("it", [sys.executable, "-c", code]) == "[]\n"


def test_nets_are_parsed():
    assert common.nets("20:128,50") == [(20, 128), (50, common.DEPTH_BATCH)]
    assert (common.data_type(50), common.data_type(164)) == ("imagenet", "cifar10")


def test_readers_are_measured_in_turn(tmp_path):
    """The ratio is of the same round; what is read twice is decoded once."""
    workload = io_readers.WORKLOADS[-1]
    photographs = [np.random.default_rng(seed).integers(0, 256, (60, 40, 3), np.uint8) for seed in range(3)]
    path = io.write_records(tmp_path, workload, photographs, 70)
    found = io.measure(workload, path, 3, 1, compare=False)
    assert all(len(values) == 3 and min(values) > 0 for values in found["values"].values())
    ratios = [own / other for own, other in zip(found["values"]["ours"], found["values"]["ImageRecordIter"])]
    assert found["ratios"]["ImageRecordIter"] == sorted(ratios)[1]
    heads, _, row = io.make_table([found], 1).splitlines()[2:]
    assert heads.count("|") == row.count("|") and f"| {sorted(ratios)[1]:.2f} |" in row
    memory = io.measure_memory(workload, path, 1)
    assert len(memory) == io.EPOCHS and all(resident > 10 and shared <= resident for resident, shared in memory)


def test_readers_of_others_are_told_where_they_are_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(io_readers, "OTHERS", {"Nobody's": ("none", ("nobody.reads", "numpy"))})
    path = io.write_records(tmp_path, io_readers.WORKLOADS[3], [np.zeros((40, 40, 3), np.uint8)], 2)
    assert list(io_readers.make_readers(io_readers.WORKLOADS[3], path, 1, compare=True)) == ["ImageRecordIter", "ours"]
    assert "left out: Nobody's: nobody.reads is not installed" in capsys.readouterr().err
