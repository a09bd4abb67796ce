"""The launcher, with commands that need no MXNet."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.commands import launch
from mxnet_resnet.engines.mxnet.launcher import Job
from mxnet_resnet.engines.mxnet.secret import SECRET
from tests.helpers.processes import LAUNCH, descendants, fake

SHOW = """
import json, os, sys, time
role = os.environ["DMLC_ROLE"]
names = ("DMLC_PS_ROOT_URI", "DMLC_NODE_HOST", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER", "OMP_NUM_THREADS")
line = json.dumps([role, os.getcwd(), sys.argv[1:], [os.environ.get(name) for name in names]])
print(line + "\\n", end="", flush=True)
time.sleep(2 * (role == "scheduler"))  # which ends last in a job
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
        ("-n 2 --launcher mpi --host ::1 python x.py", "--host '::1' is no host: give a name or an address of IPv4"),
        ("-n 2 --launcher mpi --host -x python x.py", "expected one argument"),
        ("-n 2 --launcher mpi --host=-x;id python x.py", "--host '-x;id' is no host"),
        ("-n 2 --launcher sge --host 127.0.0.1 --queue=a;id python x.py", "--queue 'a;id' is for a shell"),
        ("-n 2 --port 0 python x.py", "'0' is not a whole number from 1"),
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
    words = [*WORDS, "two\nlines", "`id`", "$(id)"]
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


ENVIRONMENT = """
import json, os, sys, time
told = {name: os.environ.get(name) for name in sys.argv[2:]}
with open(f"{sys.argv[1]}/{os.environ['DMLC_ROLE']}{os.getpid()}", "w") as file:
    json.dump([os.environ["DMLC_ROLE"], os.getcwd(), told], file)
time.sleep(2 * (os.environ["DMLC_ROLE"] == "scheduler"))  # which ends last in a job
"""


def told(folder: Path) -> list:
    """What the processes of ENVIRONMENT saw: (role, folder, variables)."""
    return sorted(json.loads(path.read_text()) for path in folder.iterdir())


@pytest.mark.parametrize("over_ssh", [False, True])
def test_the_secret_of_a_job_is_on_no_command_line(start, tmp_path, over_ssh):
    (tmp_path / "hosts").write_text("127.0.0.2\n")
    (tmp_path / "told").mkdir()
    path = fake(tmp_path, "ssh", f'printf "%s" "$*" >> {shlex.quote(str(tmp_path))}/ssh-words\n{LOCAL_SSH}')
    lasting = ENVIRONMENT + "import time; time.sleep(1)"
    command = [sys.executable, script(tmp_path, lasting), tmp_path / "told", SECRET]
    launched = start([*LAUNCH, "-n", "2", *(["-H", tmp_path / "hosts"] if over_ssh else []), *command], PATH=path)
    lines = ""
    while launched.popen.poll() is None:
        lines += subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert launched.wait() == 0, launched.text
    secrets = {variables[SECRET] for _, _, variables in told(tmp_path / "told")}
    assert len(told(tmp_path / "told")) == 5 and len(secrets) == 1
    (secret,) = secrets
    assert re.fullmatch("[0-9a-f]{32}", secret) and secret not in lines and secret not in launched.text
    assert "some $script.py" in lines
    if over_ssh:
        assert secret not in (tmp_path / "ssh-words").read_text()


def test_each_job_has_a_secret_of_its_own():
    assert Job(lifeline=True).secret != Job(lifeline=True).secret


def test_ssh_takes_values_of_the_environment_as_they_are(start, tmp_path):
    """And none that only AWS's tools need."""
    (tmp_path / "hosts").write_text("someone@127.0.0.2\n")
    (tmp_path / "told").mkdir()
    harmful = f"a b;touch {tmp_path}/done;$(touch {tmp_path}/done)`touch {tmp_path}/done`'\n\"\\"
    names = ["KMP_AFFINITY", "AWS_SECRET_ACCESS_KEY", "DMLC_NODE_HOST"]
    work = tmp_path / "it's $(touch done) `touch done`;touch done"
    work.mkdir()
    command = [*LAUNCH, "-n", "1", "-H", tmp_path / "hosts", sys.executable, script(tmp_path, ENVIRONMENT)]
    remote = LOCAL_SSH.replace("exec sh", f"echo $3 > {tmp_path}/target; unset AWS_SECRET_ACCESS_KEY; exec sh")
    environment = {"KMP_AFFINITY": harmful, "AWS_SECRET_ACCESS_KEY": "key", "PATH": fake(tmp_path, "ssh", remote)}
    launched = start(["env", "-C", work, *command, tmp_path / "told", *names], **environment)
    assert launched.wait() == 0, launched.text
    expected = {"KMP_AFFINITY": harmful, "AWS_SECRET_ACCESS_KEY": None, "DMLC_NODE_HOST": "127.0.0.2"}
    remote_ones = [line for line in told(tmp_path / "told") if line[0] != "scheduler"]
    assert remote_ones == [["server", str(work), expected], ["worker", str(work), expected]]
    assert (tmp_path / "target").read_text() == "someone@127.0.0.2\n"
    assert not list(tmp_path.rglob("done"))


HARMFUL = [
    "-oProxyCommand=touch done", "-oProxyCommand=touch${IFS}done", "$(touch done)", "`touch done`", "a;touch done",
    "a b", "127.0.0.2:22;touch done", "127.0.0.2:22 touch done", "127.0.0.2:22`touch done`", "127.0.0.2 -oX=y",
    "-v@127.0.0.2", "a@b@c", "::1", "[::1]:22", "fe80::1%lo", "127.0.0.2:0", "127.0.0.2:65536", "127.0.0.2:", "a/b",
    "127.0.0.2\t;touch done", "a\0b", "a'b", 'a"b', "a|touch done", "a&touch done", "a>done", "*", "~root", "\u0661",
    "127.0.0.2 slots=1;touch done", "127.0.0.2 slots=$(touch done)", "é",
]  # fmt: skip


@pytest.mark.parametrize("line", HARMFUL)
@pytest.mark.parametrize("system", ["ssh", "mpi"])
def test_nothing_in_a_host_file_is_run(tmp_path, monkeypatch, capsys, line, system):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").write_text(f"127.0.0.2\n\n{line}\n127.0.0.3\n", encoding="utf-8")
    monkeypatch.setenv("PATH", fake(tmp_path, "ssh", "touch done") + f":{fake(tmp_path, 'mpirun', 'touch done')}")
    monkeypatch.setattr(sys, "argv", ["launch.py", "-n", "2", "-H", "hosts", "--launcher", system, "true"])
    with pytest.raises(UserError, match=r"^hosts, line 3: .* is no (host: write .* node1, node1:2222|port: one is)"):
        launch.main()
    assert not (tmp_path / "done").exists()


def test_a_host_file_with_a_name_for_a_shell(start, tmp_path):
    """mpirun gets it as one word."""
    name = tmp_path / "some hosts; touch $HOME"
    name.write_text("127.0.0.1 slots=2 max_slots=4\n")
    fake(tmp_path, "python", 'until [ -e "$RECORD" ]; do sleep 0.1; done')
    command = [*LAUNCH, "-n", "2", "-s", "1", "--launcher", "mpi", "-H", name, "python"]
    launched = start(command, PATH=fake(tmp_path, "mpirun", RECORD), RECORD=str(tmp_path / "record"))
    assert launched.wait() == 0, launched.text
    assert f"|--hostfile|{name}|python|" in (tmp_path / "record").read_text()


def test_ssh_copies_the_folder_where_asked(start, tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.2:2222\n127.0.0.2:2222\n")
    (tmp_path / "a $folder").mkdir()
    fake(tmp_path, "ssh", LOCAL_SSH)
    path = fake(tmp_path, "rsync", f'printf "%s|" "$@" >> {shlex.quote(str(tmp_path))}/words')
    place = ["--sync-dst-dir", tmp_path / "a $folder"]
    command = [sys.executable, script(tmp_path, SHOW)]
    launched = start(["env", "-C", tmp_path, *LAUNCH, "-n", "1", "-H", tmp_path / "hosts", *place, *command], PATH=path)
    assert launched.wait() == 0, launched.text
    assert [folder for role, folder, *_ in shown(launched.text)][1:] == [str(tmp_path / "a $folder")] * 2
    shell, source, target = (tmp_path / "words").read_text().split("|")[-4:-1]
    assert shell == "ssh -o StrictHostKeyChecking=no -p 2222"
    assert (source, target) == (f"{tmp_path}/", f"127.0.0.2:{tmp_path}/a $folder")
    fake(tmp_path, "rsync", "exit 7")
    failed = start(["env", "-C", tmp_path, *LAUNCH, "-n", "1", "-H", tmp_path / "hosts", *place, *command], PATH=path)
    assert failed.wait() == 2 and "error: rsync could not copy" in failed.text and not shown(failed.text)


@pytest.mark.parametrize("system", ["local", "mpi"])
def test_a_port_in_use_is_told_before_anything_starts(start, tmp_path, system):
    """Where it is one of the scheduler's address; the same of another is free."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command = ["--port", port, sys.executable, script(tmp_path, SHOW)]
        launched = start([*LAUNCH, "-n", "2", "--launcher", system, "--host", "127.0.0.1", *command])
        assert launched.wait() == 2
        assert launched.text == f"error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        if system == "local":
            elsewhere = start([*LAUNCH, "-n", "1", "--host", "127.0.0.2", *command])
            assert elsewhere.wait() == 0, elsewhere.text


def test_the_scheduler_gets_the_port_that_was_asked_for(start, tmp_path):
    (tmp_path / "told").mkdir()
    with socket.socket() as other:  # of another address, and of a job that has just ended
        other.bind(("127.0.0.9", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command = ["--port", port, sys.executable, script(tmp_path, ENVIRONMENT), tmp_path / "told"]
        launched = start([*LAUNCH, "-n", "1", *command, "DMLC_PS_ROOT_PORT"])
        assert launched.wait() == 0, launched.text
    assert [variables["DMLC_PS_ROOT_PORT"] for *_, variables in told(tmp_path / "told")] == [port] * 3


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
