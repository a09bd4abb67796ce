"""Jobs of several processes on 127.0.0.1."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import cluster, launcher
from tests.helpers.members import SAVE, TRAIN_FOR_EVER, TWENTY_STEPS, assert_as_one_worker_with_two_devices, member
from tests.helpers.processes import LAUNCH
from tests.helpers.stranger import find_ports


def test_two_workers_are_as_one_with_two_devices(start, tmp_path):
    script = member(tmp_path, SAVE.format(folder=str(tmp_path)), before=TWENTY_STEPS)
    launched = start([*LAUNCH, "-n", "2", sys.executable, script])
    assert launched.wait() == 0, launched.text
    assert_as_one_worker_with_two_devices(tmp_path)


EXCHANGES = """
rank = store.rank
assert peers.all_same("as all") and not peers.all_same(f"mine is {rank}")
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
    total = peers.add_up([2**40 + 1, rank, 1 / 3, -1e6, 5 * rank - 5, 1.5, float("nan") if rank else 1])
    assert total[:2] == [2**41 + 2, 1] and abs(total[2] - 2 / 3) < 1e-11, total
    assert total[3:6] == [-2e6, -5, 3] and np.isnan(total[6]), total
assert peers.all_same("as all") and not peers.all_same(f"mine is {rank}")
mean = peers.mean({"x": mx.nd.full((2, 3), rank), "y": mx.nd.full(1, 4 * rank)})
assert (mean["x"].asnumpy() == 0.5).all() and mean["x"].shape == (2, 3) and mean["y"].asscalar() == 2
assert peers.any_true(rank == 1) and not peers.any_true(False)
assert peers.all_same("as all") and not peers.all_same(f"mine is {rank}")
steps, told = 0, False
while not peers.should_stop(told):
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

    from mxnet_resnet.engines.mxnet.group import KVStoreGroup

    with cluster.join("local") as store:
        peers = KVStoreGroup(store)
        arrays = {"x": mx.nd.ones(2)}
        peers.barrier()
        assert peers.add_up([1, 2.5]) == [1, 2.5]
        assert peers.mean(arrays) == arrays
        assert [peers.should_stop(told) for told in (False, True)] == [False, True]
        assert [peers.any_true(told) for told in (False, True)] == [False, True]
        assert peers.all_same("any")


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
        ({"DMLC_INTERFACE": "none0"}, "DMLC_INTERFACE=none0 is none of this machine's interfaces: .*lo"),
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


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"DMLC_NODE_HOST": "127.0.0.4"}, "127.0.0.4"),
        # The interface, where dmlc_tracker names the host in any case
        ({"DMLC_NODE_HOST": "127.0.0.4", "DMLC_INTERFACE": "lo"}, "127.0.0.1"),
        ({"DMLC_NODE_HOST": "some-node", "DMLC_INTERFACE": "lo"}, "127.0.0.1"),
    ],
)
def test_processes_listen_on_the_address_asked_for_alone(job, tmp_path, asked, expected):
    processes = job(member(tmp_path, TRAIN_FOR_EVER), DMLC_PS_ROOT_URI="127.0.0.3", **asked)
    processes["worker"][0].wait_for("step", 5)
    for role, group in processes.items():
        for process in group:
            found = [address for address, _ in find_ports(process.popen.pid)]
            assert found == ["127.0.0.3" if role == "scheduler" else expected], role


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
    fails = (
        "\nfrom mxnet_resnet.base.errors import UserError\nif store.rank == 1:\n    raise UserError('no such image')"
    )
    processes = job(member(tmp_path, fails + TRAIN_FOR_EVER))
    statuses = {process.wait() for group in processes.values() for process in group}
    assert statuses == {2}
    assert "error: no such image\n" in [worker.text for worker in processes["worker"]]
