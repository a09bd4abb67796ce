"""Jobs on two network namespaces with a cable between them: two machines, as far as addresses go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.helpers.members import SAVE, TRAIN_FOR_EVER, TWENTY_STEPS, assert_as_one_worker_with_two_devices, member
from tests.helpers.processes import LAUNCH, fake


@dataclass
class Machines:
    first: str
    second: str
    addresses: tuple[str, str] = ("10.177.0.1", "10.177.0.2")

    def within(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", name)


@pytest.fixture
def machines():
    names = Machines(f"resnet-{os.getpid()}-a", f"resnet-{os.getpid()}-b")
    cable = (f"ra{os.getpid()}", f"rb{os.getpid()}")
    pairs = list(zip((names.first, names.second), cable, names.addresses))
    setup = [f"netns add {name}" for name, *_ in pairs]
    setup.append(f"link add {cable[0]} netns {names.first} type veth peer name {cable[1]} netns {names.second}")
    for name, end, address in pairs:
        setup += [f"-n {name} addr add {address}/24 dev {end}", f"-n {name} link set {end} up"]
        setup.append(f"-n {name} link set lo up")
    try:
        for line in setup:
            done = subprocess.run(["ip", *line.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {line}: {done.stderr.strip()}")
        yield names
    except FileNotFoundError:
        pytest.skip("there is no ip command")
    finally:
        if shutil.which("ip"):
            for name in (names.first, names.second):
                subprocess.run(["ip", "netns", "del", name], capture_output=True)


SSH_INTO_NAMESPACES = """
case "$3" in {addresses[0]}) name={first};; {addresses[1]}) name={second};; *) exit 99;; esac
exec ip netns exec $name sh -c "$6"
"""


@pytest.mark.slow
def test_two_machines_with_addresses_of_their_own(start, machines, tmp_path):
    path = fake(tmp_path, "ssh", SSH_INTO_NAMESPACES.format(**vars(machines)))
    (tmp_path / "hosts").write_text("\n".join(machines.addresses))
    script = member(tmp_path, SAVE.format(folder=str(tmp_path)), before=TWENTY_STEPS)
    command = [*machines.within(machines.first), *LAUNCH, "-n", "2", "-s", "2", "-H", tmp_path / "hosts"]
    launched = start([*command, sys.executable, script], PATH=path, OMP_NUM_THREADS="1")
    assert launched.wait() == 0, launched.text
    assert sorted(re.findall(r"at (\S+)", launched.text)) == list(machines.addresses)
    assert_as_one_worker_with_two_devices(tmp_path)


@pytest.mark.slow
def test_a_machine_that_vanishes_ends_the_job(job, machines, tmp_path):
    first, second = machines.within(machines.first), machines.within(machines.second)
    processes = job(member(tmp_path, TRAIN_FOR_EVER), first, second, DMLC_PS_ROOT_URI=machines.addresses[0])
    for worker in processes["worker"]:
        worker.wait_for("step", 5)
    cut = time.monotonic()
    subprocess.run(["ip", "-n", machines.second, "link", "set", f"rb{os.getpid()}", "down"], check=True)
    for process in (process for group in processes.values() for process in group):
        assert process.wait() == 2, process.text
        assert process.text.count("launch it again with --resume") == 1
    seconds = time.monotonic() - cut
    print(f"all had ended {seconds:.0f} s after the cable was cut")
    assert seconds < 60
