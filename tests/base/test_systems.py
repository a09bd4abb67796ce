"""What systems differ in: modules and calls that only some have, and the processors that a container gives."""

import math
import os
import subprocess
import sys
import time

import pytest

from mxnet_resnet.base import environment
from mxnet_resnet.base.cgroups import read_cpu_quota
from tests.helpers import REPOSITORY
from tests.helpers.pictures import save_classes

# As on Windows. The commands are then run one after another; each ends by its status.
ELSEWHERE = """
import logging, os, runpy, signal, sys
sys.modules.update(dict.fromkeys(["fcntl", "resource", "mxnet", "torch"]))
for module, names in {os: ["sched_getaffinity", "pread", "O_DIRECTORY", "getppid"], signal: ["SIGHUP"]}.items():
    for name in names:
        delattr(module, name)
from mxnet_resnet import __main__ as door
for words in (line.split() for line in sys.stdin):
    sys.argv = ["mxnet-resnet", *words]
    print(words[0], door.main() or 0)
from pathlib import Path
from mxnet_resnet.base import environment, files
from mxnet_resnet.data import recordio
assert environment.cores() >= 1 and environment.memory() == {} and environment.count_busy_cores() == 0
offsets = recordio.scan(Path("x.rec")).offsets
assert recordio.RecordFile(Path("x.rec"), offsets).read(7).label == 1
with files.locked(Path("new/lock")):
    assert not list(files.abandoned(Path("new/net")))
assert not Path("new/lock").exists()
assert not logging.getLogger().handlers  # with one, all lines of a run would come twice
"""


def test_records_checks_and_curves_need_nothing_that_only_linux_has(tmp_path):
    save_classes(tmp_path / "photos", cat=5, dog=5)
    log = REPOSITORY / "log/digits.log"
    commands = f"im2rec x photos --no-shuffle\ncheck_rec x.rec\nplot_curve --logs={log} --out=curve.png\n"
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=commands,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [f"{name} 0" in done.stdout for name in ("im2rec", "check_rec", "plot_curve")] == [True] * 3
    assert "There is no lock on new/lock (not on this system)" in done.stderr
    assert (tmp_path / "curve.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "group, files, quota",
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {}, math.inf),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, 2),  # the tighter one
        ("0::/docker/1f", {"cpu.max": "50000 100000"}, 0.5),  # named as the machine sees it
        ("4:memory:/\n3:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("3:cpuacct,cpu:/", {"cpuacct,cpu/cpu.cfs_quota_us": "1", "cpuacct,cpu/cpu.cfs_period_us": "2"}, 0.5),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("3:cpuset:/", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "2"}, math.inf),
        ("0::/", {"cpu.max": "-1 100000"}, math.inf),
        ("\nnot a group\n0::/a:b", {"a:b/cpu.max": "300000 100000"}, 3),
        (None, {"cpu.max": "1 2"}, math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path, group, files, quota):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {**files, **({"proc/self/cgroup": group} if group else {})}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert read_cpu_quota(tmp_path) == quota


@pytest.mark.parametrize("quota, cores", [(math.inf, 8), (12.0, 8), (2.0, 2), (1.5, 2), (0.2, 1)])
def test_a_quota_counts_as_processors(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(environment, "read_cpu_quota", lambda: quota)
    assert environment.cores() == cores


@pytest.mark.parametrize("others, busy", [(0.0, 0), (0.4, 0), (2.6, 3), (8.0, 8), (-0.6, 0)])
def test_cores_are_busy_with_what_others_compute(monkeypatch, others, busy):
    monkeypatch.setattr(environment, "_read_busy", iter([100.0, 101.0 + 2 * others]).__next__)
    monkeypatch.setattr(environment.time, "process_time", iter([3.0, 4.0]).__next__)  # a second of it is ours
    monkeypatch.setattr(environment.time, "monotonic", iter([10.0, 12.0]).__next__)
    assert environment.count_busy_cores() == busy


def test_two_that_look_at_the_same_time_see_each_other(monkeypatch):
    monkeypatch.setattr(environment, "_read_busy", time.process_time)  # as if this were the only process
    assert environment.count_busy_cores(0.05) == 0
    before = time.process_time()
    environment.count_busy_cores(0.2)
    assert time.process_time() - before > 0.01  # it does not sleep


def test_busy_seconds_are_those_of_the_processors_that_may_be_used(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 99 99 4 5 6 1 1\ncpu1 70 0 0 9 9 0 0 0 7 0\nintr 1\n\n"
    )
    monkeypatch.setattr(os, "sysconf", lambda _: 10, raising=False)
    for processors, ticks in (({0}, 21), ({0, 1}, 91), ({2}, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, chosen=processors: chosen, raising=False)
        assert environment._read_busy(tmp_path / "stat") == ticks / 10
    assert environment._read_busy(tmp_path / "none") == 0
