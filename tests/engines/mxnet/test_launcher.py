"""The launcher, with commands that need no MXNet."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.processes import LAUNCH, descendants, fake

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
    """The lines of SHOW, behind the titles that the launcher gives them."""
    found = re.findall(r"^\[(\w+)(?: \d+)?(?: on [\d.]+)?\] (\[.*)", text, re.MULTILINE)
    lines = [(role, json.loads(line)) for role, line in found]
    assert all(role == line[0] for role, line in lines)
    return sorted(line for _, line in lines)


def test_each_line_tells_whose_it_is(start, tmp_path):
    """Lines of both outputs, whole."""
    text = SHOW + "for i in range(50): print(role * 40, file=sys.stderr)\nprint('end of', role)"
    launched = start([*LAUNCH, "-n", "2", "-s", "1", sys.executable, script(tmp_path, text)])
    assert launched.wait() == 0, launched.text
    for name in ("worker 0", "worker 1", "server 0", "scheduler"):
        role = name.split()[0]
        assert launched.text.count(f"[{name}] {role * 40}\n") == 50
        assert f"[{name}] end of {role}\n" in launched.text


def test_a_last_line_without_a_line_break_is_a_line(start, tmp_path):
    launched = start(
        [*LAUNCH, "-n", "2", "-s", "1", sys.executable, script(tmp_path, SHOW + "sys.stdout.write('  a\\\\b')")]
    )
    assert launched.wait() == 0, launched.text
    ends = sorted(line for line in launched.text.splitlines() if line.endswith("a\\b"))
    assert ends == [f"[{name}]   a\\b" for name in ("scheduler", "server 0", "worker 0", "worker 1")]


def test_the_launcher_starts_the_processes_and_keeps_the_words_apart(start, tmp_path):
    untold = ["env", "-u", "OMP_NUM_THREADS"]
    launched = start([*untold, *LAUNCH, "-n2", "-s", "1", sys.executable, script(tmp_path, SHOW), *WORDS])
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
        ("-n 2 --launcher mpi --host 127.0.0.1 sleep 9", "cannot start the job: .*mpirun"),
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
    assert sorted(re.findall(r"^\[(\w+) \d on (\S+)\] to (\S+)$", launched.text, re.MULTILINE)) == [
        ("server", "127.0.0.2", "127.0.0.2:22"),
        ("worker", "127.0.0.2", "127.0.0.2:22"),
        ("worker", "127.0.0.3", "127.0.0.3:2222"),
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
    # The scheduler: where it has ended, nothing is submitted.
    fake(tmp_path, "python", 'until [ -e "$RECORD" ]; do sleep 0.1; done')
    arguments = f"-n 2 -s 1 --launcher {system} --host 10.0.0.1 python".split()
    launched = start([*LAUNCH, *arguments, "a b"], PATH=path, RECORD=str(tmp_path / "record"))
    assert launched.wait() == 0, launched.text
    assert re.search(expected, (tmp_path / "record").read_text(), re.MULTILINE)
