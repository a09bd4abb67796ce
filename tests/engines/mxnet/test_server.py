"""What the servers of a job take, and from whom."""

from __future__ import annotations

import pickle
import time

import pytest

from tests.helpers.members import TRAIN_FOR_EVER, member
from tests.helpers.stranger import Bomb, find_ports, send_command


@pytest.mark.parametrize("kind", ["dist_sync", "dist_async"])
def test_a_stranger_can_run_nothing_in_a_server(job, tmp_path, kind):
    processes = job(member(tmp_path, TRAIN_FOR_EVER, kind))
    for worker in processes["worker"]:
        worker.wait_for("step", 5)
    server = processes["server"][0]
    (address,) = find_ports(server.popen.pid)
    assert address[0] == "127.0.0.1"
    bomb = pickle.dumps(Bomb(tmp_path / "taken over"), 0)
    send_command(address, 0, bomb)
    time.sleep(1)
    assert not (tmp_path / "taken over").exists()
