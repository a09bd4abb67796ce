"""Jobs of several processes on 127.0.0.1, and on network namespaces of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import REPOSITORY
from processes import LAUNCH, Started, descendants

from mxnet_resnet import cluster, launcher
from mxnet_resnet.errors import UserError

# A worker, or whatever DMLC_ROLE says: `body` is what a worker does with its `store` and `peers`.
MEMBER = """
import os, signal, sys, time
sys.path[:0] = [{repository!r}, {tests!r}]
from mxnet_resnet import cluster
from mxnet_resnet.errors import run

def main():
    kind = {kind!r}
    cluster.prepare(kind)
    global mx, np
    import mxnet as mx, numpy as np
    from mxnet_resnet.peers import Peers
    with cluster.join(kind) as store:
        peers = Peers(store)
{body}

run(main)
"""

TRAIN_FOR_EVER = """
array = mx.nd.zeros(1)
store.init("array", array)
while True:
    store.pushpull("array", mx.nd.ones(1), out=array)
    array.asscalar()
    print("step", flush=True)
    time.sleep(0.02)
"""

# Twenty steps of a small net with BatchNorm and momentum; worker `rank` takes every second half of a batch of 8.
TWENTY_STEPS = """
def train(store, peers, contexts, part):
    mx.random.seed(0)
    data = mx.sym.var("data")
    net = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, no_bias=True, name="conv")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), act_type="relu")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=3, name="fc"), name="softmax")
    module = mx.mod.Module(net, context=contexts)
    module.bind([("data", (4 * len(contexts), 2, 8, 8))], [("softmax_label", (4 * len(contexts),))])
    module.init_params(mx.init.Xavier())
    os.environ["MXNET_UPDATE_ON_KVSTORE"] = "0"
    module.init_optimizer(store, "nag", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-3})
    random = np.random.RandomState(1)
    for _ in range(20):
        images, labels = random.rand(8, 2, 8, 8)[part], random.randint(0, 3, 8)[part]
        module.forward_backward(mx.io.DataBatch([mx.nd.array(images)], [mx.nd.array(labels)]))
        module.update()
    return peers.settle(module)
"""


def member(folder: Path, body: str, kind: str = "dist_sync", before: str = "") -> Path:
    """A script that takes part in a job."""
    script = folder / "member.py"
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    text = MEMBER.format(repository=str(REPOSITORY), tests=str(REPOSITORY / "tests"), kind=kind, body=lines)
    script.write_text(text.replace("def main():", f"{before}\ndef main():", 1))
    return script


@pytest.fixture
def job(start):
    """Start a job by hand, without the launcher: processes by role."""

    def run(
        script: Path, first: tuple[str, ...] = (), second: tuple[str, ...] = (), **environment: str
    ) -> dict[str, list[Started]]:
        """Start all; ``first`` goes before the commands, but ``second`` before that of the second worker."""
        shared = {
            "DMLC_PS_ROOT_URI": "127.0.0.1",
            "DMLC_PS_ROOT_PORT": str(launcher._free_port()),
            "DMLC_NUM_WORKER": "2",
            "DMLC_NUM_SERVER": "1",
            **environment,
        }
        found: dict[str, list[Started]] = {"scheduler": [], "server": [], "worker": []}
        for role, before in (("scheduler", first), ("server", first), ("worker", first), ("worker", second)):
            found[role].append(start([*before, sys.executable, script], DMLC_ROLE=role, OMP_NUM_THREADS="1", **shared))
        return found

    return run


SAVE = """
part = slice(4 * store.rank, 4 * store.rank + 4)
args, auxs = train(store, peers, [mx.cpu()], part)
mx.nd.save({folder!r} + f"/{{store.rank}}.params", {{**args, **auxs}})
print("at", os.environ["DMLC_NODE_HOST"])
"""


def assert_as_one_worker_with_two_devices(folder: Path) -> None:
    """Compare what SAVE has saved."""
    import mxnet as mx

    from mxnet_resnet.peers import Peers

    names: dict = {"mx": mx, "np": np, "os": mock.MagicMock()}
    exec(TWENTY_STEPS, names)
    store = mx.kvstore.create("device")
    args, auxs = names["train"](store, Peers(store), [mx.cpu(0), mx.cpu(1)], slice(0, 8))
    for rank in (0, 1):
        found = mx.nd.load(str(folder / f"{rank}.params"))
        assert found.keys() == {**args, **auxs}.keys()
        for name, array in {**args, **auxs}.items():
            np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), atol=1e-5, err_msg=name)


def test_two_workers_are_as_one_with_two_devices(start, tmp_path):
    script = member(tmp_path, SAVE.format(folder=str(tmp_path)), before=TWENTY_STEPS)
    launched = start([*LAUNCH, "-n", "2", sys.executable, script])
    assert launched.wait() == 0, launched.text
    assert_as_one_worker_with_two_devices(tmp_path)


EXCHANGES = """
rank = store.rank
assert peers.same("as all") and not peers.same(f"mine is {rank}")
data = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3)
module = mx.mod.Module(mx.sym.SoftmaxOutput(data, name="softmax"))
module.bind([("data", (4, 5))], [("softmax_label", (4,))])
module.init_params(mx.init.Xavier())
asynchronous = store.type == "dist_async"
os.environ["MXNET_UPDATE_ON_KVSTORE"] = str(int(asynchronous))
names = {peers.next_key + index: name for index, name in enumerate(module._exec_group.param_names)}
kind = "servernag" if asynchronous else "nag"
module.init_optimizer(store, mx.optimizer.create(kind, learning_rate=0, param_idx2name=names, rescale_grad=0.125))
before = {name: array.copy() for name, array in module.get_params()[0].items()}
assert module._update_on_kvstore == (store.type == "dist_async")
for _ in range(2):
    total = peers.total([2**40 + 1, rank, 1 / 3, -1e6, 5 * rank - 5, 1.5, float("nan") if rank else 1])
    assert total[:2] == [2**41 + 2, 1] and abs(total[2] - 2 / 3) < 1e-11, total
    assert total[3:6] == [-2e6, -5, 3] and np.isnan(total[6]), total
assert peers.same("as all") and not peers.same(f"mine is {rank}")
mean = peers.mean({"x": mx.nd.full((2, 3), rank), "y": mx.nd.full(1, 4 * rank)})
assert (mean["x"].asnumpy() == 0.5).all() and mean["x"].shape == (2, 3) and mean["y"].asscalar() == 2
assert peers.agreed(rank == 1) and not peers.agreed(False)
assert peers.same("as all") and not peers.same(f"mine is {rank}")
steps, told = 0, False
while not peers.stop(told):
    module.forward_backward(mx.io.DataBatch([mx.nd.ones((4, 5))], [mx.nd.zeros(4)]))
    module.update()
    steps += 1
    told = rank == 1 and steps > 2
assert steps == 4 or store.type == "dist_async"
params, _ = peers.settle(module)
for found in (params, peers.mean(params)):
    assert all(np.allclose(found[name].asnumpy(), array.asnumpy(), atol=1e-7) for name, array in before.items())
peers.barrier()
print("agreed", flush=True)
"""


@pytest.mark.parametrize("kind", ["dist_sync", pytest.param("dist_device_sync", marks=pytest.mark.slow), "dist_async"])
def test_workers_exchange_sums_means_values_and_the_wish_to_stop(start, tmp_path, kind):
    launched = start([*LAUNCH, "-n", "2", "-s", "1", sys.executable, member(tmp_path, EXCHANGES, kind)])
    assert launched.wait() == 0, launched.text
    assert launched.text.count("agreed") == 2


def test_a_store_of_one_process_is_trivial():
    import mxnet as mx

    from mxnet_resnet.peers import Peers

    with cluster.join("local") as store:
        peers = Peers(store)
        arrays = {"x": mx.nd.ones(2)}
        peers.barrier()
        assert peers.total([1, 2.5]) == [1, 2.5]
        assert peers.mean(arrays) == arrays
        assert [peers.stop(told) for told in (False, True)] == [False, True]
        assert [peers.agreed(told) for told in (False, True)] == [False, True]
        assert peers.same("any")


JOB = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9091",
    "DMLC_NUM_WORKER": "2",
    "DMLC_NUM_SERVER": "1",
    "RESNET_JOIN_TIMEOUT": "0",
}


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict.fromkeys(JOB, ""), r"--kv-store dist_sync needs a launched job .*: python tools/launch.py -n WORKERS"),
        ({"DMLC_NUM_WORKER": ""}, "DMLC_NUM_WORKER not set"),
        ({"DMLC_ROLE": "boss"}, "DMLC_ROLE=boss is none of worker, server, scheduler"),
        ({"DMLC_NUM_SERVER": "none"}, "DMLC_NUM_SERVER=none is not a number"),
        ({"DMLC_PS_ROOT_PORT": "70000"}, "DMLC_PS_ROOT_PORT=70000 is not a number from 1 to 65535"),
        (
            {"DMLC_PS_ROOT_URI": "no.such.host.invalid"},
            "the scheduler's host no.such.host.invalid has no known address",
        ),
        ({"DMLC_NODE_HOST": "192.0.2.1"}, "DMLC_NODE_HOST=192.0.2.1 is none of this machine's addresses"),
        ({"DMLC_ROLE": "scheduler", "DMLC_PS_ROOT_URI": "192.0.2.1"}, "address 192.0.2.1 is none of this machine's"),
    ],
)
def test_an_environment_that_is_no_jobs_is_told(monkeypatch, changed, message):
    for name, value in {**JOB, "DMLC_NODE_HOST": "", **changed}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        cluster.prepare("dist_sync")


def test_a_launched_process_with_a_store_for_one_is_told(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")
    with pytest.raises(UserError, match="the server of a launched job, and --kv-store device is for one process"):
        cluster.prepare("device")


def test_a_port_that_is_taken_is_told(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for name, value in {**JOB, "DMLC_ROLE": "scheduler", "DMLC_PS_ROOT_PORT": str(other.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"):
            cluster.prepare("dist_sync")


@pytest.mark.parametrize("task, role", [("1", "worker"), ("2", "worker"), ("3", "server")])
def test_grid_engine_tells_the_role_by_a_number(monkeypatch, task, role):
    for name, value in {**JOB, "DMLC_JOB_CLUSTER": "sge", "DMLC_TASK_ID": task}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DMLC_ROLE")
    with pytest.raises(UserError, match=f"the {role} of a launched job"):
        cluster.prepare("local")


def test_names_become_addresses(monkeypatch):
    for name, value in {**JOB, "DMLC_PS_ROOT_URI": "localhost", "DMLC_NODE_HOST": "some-node"}.items():
        monkeypatch.setenv(name, value)
    cluster._set_addresses()
    assert (os.environ["DMLC_PS_ROOT_URI"], os.environ["DMLC_NODE_HOST"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("role", ["worker", "server"])
def test_a_scheduler_that_does_not_answer_is_not_waited_for_for_ever(start, tmp_path, role):
    environment = {
        **JOB,
        "DMLC_PS_ROOT_PORT": str(launcher._free_port()),
        "RESNET_JOIN_TIMEOUT": "3",
        "DMLC_ROLE": role,
    }
    alone = start([sys.executable, member(tmp_path, "pass")], **environment)
    assert alone.wait() == 2
    assert alone.text.count("\n") == 1
    assert "2 workers, 1 servers and the scheduler at 127.0.0.1:" in alone.text


# Deaths, without a launcher: what has to be noticed by the processes themselves, within a minute.


@pytest.mark.slow
@pytest.mark.parametrize("role", ["worker", "server", "scheduler"])
def test_a_death_ends_all_others(job, tmp_path, role):
    processes = job(member(tmp_path, TRAIN_FOR_EVER))
    for worker in processes["worker"]:
        worker.wait_for("step", 5)
    victim = processes[role][-1]
    victim.popen.kill()
    killed = time.monotonic()
    others = [process for group in processes.values() for process in group if process is not victim]
    for other in others:
        assert other.wait() == 2, other.text
    seconds = time.monotonic() - killed
    print(f"all others had ended {seconds:.0f} s after the death of the {role}")
    assert seconds < 60
    for other in others:
        told = [line for line in other.text.splitlines() if line != "step"]
        assert len(told) == 1 and "launch it again with --resume" in told[0], told
    if role != "scheduler":
        assert f"{role} " in processes["scheduler"][0].text


@pytest.mark.slow
def test_a_worker_that_fails_ends_the_others_too(job, tmp_path):
    fails = "\nif store.rank == 1:\n    from mxnet_resnet.errors import UserError\n    raise UserError('no such image')"
    processes = job(member(tmp_path, fails + TRAIN_FOR_EVER))
    statuses = {process.wait() for group in processes.values() for process in group}
    assert statuses == {2}
    assert "error: no such image\n" in [worker.text for worker in processes["worker"]]


# The launcher, with commands that need no MXNet

SHOW = """
import json, os, sys, time
role = os.environ["DMLC_ROLE"]
names = ("DMLC_PS_ROOT_URI", "DMLC_NODE_HOST", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER", "OMP_NUM_THREADS")
line = json.dumps([role, os.getcwd(), sys.argv[1:], [os.environ.get(name) for name in names]])
print(line + "\\n", end="", flush=True)
"""
WORDS = ["a b", "it's", "", "$HOME", "*", '"q"', "a\\b", "--depth", "é;&|#"]


def script(folder: Path, text: str) -> Path:
    """A script in a folder, and under a name, that a shell would take apart."""
    folder = folder / "a folder & more"
    folder.mkdir()
    path = folder / "some $script.py"
    path.write_text(text)
    return path


def shown(text: str) -> list:
    return sorted(json.loads(line) for line in text.splitlines() if line.startswith("["))


def test_the_launcher_starts_the_processes_and_keeps_the_words_apart(start, tmp_path):
    launched = start([*LAUNCH, "-n2", "-s", "1", sys.executable, script(tmp_path, SHOW), *WORDS])
    assert launched.wait() == 0, launched.text
    values = ["127.0.0.1", "127.0.0.1", "2", "1", str(max(1, len(os.sched_getaffinity(0)) // 2))]
    roles = ["scheduler", "server", "worker", "worker"]
    assert shown(launched.text) == [[role, os.getcwd(), WORDS, values] for role in roles]


@pytest.mark.parametrize("status", [1, 2, 5, 143])
def test_the_launcher_ends_with_the_jobs_status(start, tmp_path, status):
    text = SHOW + f"sys.exit({status} if role == 'worker' else 0)"
    launched = start([*LAUNCH, "-n", "2", sys.executable, script(tmp_path, text)])
    assert launched.wait() == status
    assert ("ended with status" in launched.text) == (status == 5)


def test_a_death_ends_the_launched_job_with_one_sentence(start, tmp_path):
    text = SHOW + "if role == 'server': os.kill(os.getpid(), 9)\ntime.sleep(300)"
    launched = start([*LAUNCH, "-n", "2", "-s", "1", sys.executable, script(tmp_path, text)])
    assert launched.wait(60) == 2
    told = [line for line in launched.text.splitlines() if not line.startswith("[")]
    assert told == ["error: a server was killed (SIGKILL): the job is ended; launch it again with --resume"]
    assert not descendants(launched.popen.pid)


WAIT_FOR_A_SIGNAL = """
import signal
def stop(number, _):
    print(f"stopped by {signal.Signals(number).name}\\n", end="", flush=True)
    time.sleep(1)
    open(sys.argv[1], "a").write(role)
    sys.exit(128 + number)
if role == "worker":
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print("waiting", flush=True)
while not (role != "worker" and os.path.exists(sys.argv[1])):
    time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_to_the_workers_which_end_in_order(start, tmp_path, number):
    command = [sys.executable, script(tmp_path, SHOW + WAIT_FOR_A_SIGNAL), tmp_path / "stopped"]
    launched = start([*LAUNCH, "-n", "2", *command])
    launched.wait_for("waiting", 2)
    launched.popen.send_signal(number)
    assert launched.wait() == 128 + number
    assert launched.text.count(f"stopped by {number.name}") == 2
    assert (tmp_path / "stopped").read_text() == "workerworker"


def test_workers_stop_when_the_launcher_dies(start, tmp_path):
    launched = start(
        [*LAUNCH, "-n", "2", sys.executable, script(tmp_path, SHOW + WAIT_FOR_A_SIGNAL), tmp_path / "stopped"]
    )
    launched.wait_for("waiting", 2)
    launched.popen.kill()
    deadline = time.monotonic() + 60
    while not ((tmp_path / "stopped").exists() and (tmp_path / "stopped").read_text() == "workerworker"):
        assert time.monotonic() < deadline, launched.text
        time.sleep(0.1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("-n 2", "there is no command to launch"),
        ("python x.py", "the following arguments are required: -n"),
        ("-n 0 python x.py", "'0' is not a whole number from 1"),
        ("-n 2 --launcher ssh python x.py", "--launcher ssh needs the hosts: -H FILE"),
        ("-n 2 -H nohosts python x.py", "cannot read the host file nohosts: No such file"),
        ("-n 2 --launcher mpi --host 127.0.0.1 python x.py", "cannot start the job: .*mpirun"),
        (
            "-n 2 --launcher kubernetes --host 127.0.0.1 python x.py",
            "cannot start the job: No module named 'kubernetes'",
        ),
        ("-n 2 --frobnicate 3 python x.py", "dmlc_tracker has no flag --frobnicate"),
    ],
)
def test_a_wrong_command_line_is_told(start, monkeypatch, arguments, message):
    launched = start([*LAUNCH, *arguments.split()], PATH="/usr/bin:/bin")
    assert launched.wait() == 2
    assert re.search(f"^error: .*{message}", launched.text, re.MULTILINE)
    assert "Traceback" not in launched.text


def fake(folder: Path, name: str, text: str) -> str:
    """A PATH on which a command is a script of ours."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"


# ssh HOST -p PORT COMMAND, as dmlc_tracker calls it
LOCAL_SSH = """
[ "$1 $2 $4" = "-o StrictHostKeyChecking=no -p" ] || exit 99
echo "to $3:$5" >&2
cd /; exec sh -c "$6"
"""


def test_ssh_starts_the_processes_on_the_hosts(start, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.2\n127.0.0.3:2222\n")
    words = [word for word in WORDS if "'" not in word]
    text = script(tmp_path, SHOW)
    command = [*LAUNCH, "-n", "2", "-s", "1", "-H", tmp_path / "hosts", sys.executable, text, *words]
    launched = start(["env", "-C", text.parent, *command], PATH=fake(tmp_path, "ssh", LOCAL_SSH))
    assert launched.wait() == 0, launched.text
    assert sorted(line for line in launched.text.splitlines() if line.startswith("to ")) == [
        "to 127.0.0.2:22",
        "to 127.0.0.2:22",
        "to 127.0.0.3:2222",
    ]
    found = shown(launched.text)
    assert [role for role, *_ in found] == ["scheduler", "server", "worker", "worker"]
    for _, folder, arguments, (scheduler, *_) in found:
        assert (folder, arguments, scheduler) == (str(text.parent), words, "127.0.0.1")


def test_ssh_passes_signals_on(start, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.2\n")
    command = [sys.executable, script(tmp_path, SHOW + WAIT_FOR_A_SIGNAL), tmp_path / "stopped"]
    launched = start([*LAUNCH, "-n", "2", "-H", tmp_path / "hosts", *command], PATH=fake(tmp_path, "ssh", LOCAL_SSH))
    launched.wait_for("waiting", 2)
    launched.popen.terminate()
    assert launched.wait() == 143
    assert (tmp_path / "stopped").read_text() == "workerworker"


def test_ssh_refuses_what_it_cannot_pass_on(start, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.2\n")
    launched = start([*LAUNCH, "-n", "2", "-H", tmp_path / "hosts", "python", "it's"])
    assert launched.wait() == 2
    assert "cannot pass on an argument with an apostrophe" in launched.text


# For these the command lines are looked at: none of the systems is here.
RECORD = """
[ "$1" = --version ] && { echo "mpirun (Open MPI) 4.1"; exit; }
printf '%s|' "$DMLC_ROLE" "$@" >> "$RECORD"; echo >> "$RECORD"
"""


@pytest.mark.parametrize(
    "system, command, expected",
    [
        ("mpi", "mpirun", r"^\|-n\|2\|.*-x\|DMLC_PS_ROOT_URI=10.0.0.1\|.*-x\|DMLC_ROLE=worker\|.*python\|a b\|$"),
        ("slurm", "srun", r"^worker\|.*-n\|2\|python\|a b\|$"),
        ("sge", "qsub", r"^\|-cwd\|-t\|1-3\|.*DMLC_PS_ROOT_URI=10.0.0.1.*rundmlc.sh\|python\|a b\|$"),
    ],
)
def test_batch_systems_get_their_command_lines(start, tmp_path, monkeypatch, system, command, expected):
    monkeypatch.chdir(tmp_path)
    path = fake(tmp_path, command, RECORD)
    fake(tmp_path, "python", "exit 0")  # the scheduler
    arguments = f"-n 2 -s 1 --launcher {system} --host 10.0.0.1 python".split()
    launched = start([*LAUNCH, *arguments, "a b"], PATH=path, RECORD=str(tmp_path / "record"))
    assert launched.wait() == 0, launched.text
    assert re.search(expected, (tmp_path / "record").read_text(), re.MULTILINE)


# Two network namespaces with a cable between them: two machines, as far as addresses go.


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
