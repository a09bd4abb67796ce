"""What stands where a file is to be written is written through or refused, and never replaced but by a file."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mxnet_resnet.base import files
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import check_own, check_writable, name_by_date, replacing

WRITE = """
import sys
from pathlib import Path
from mxnet_resnet.base.files import replacing
print("before")
with replacing(Path(sys.argv[1])) as (temporary,):
    temporary.write_text("written\\n")
print("after")
"""


def write(path: Path, text: str = "written") -> None:
    with replacing(path) as (temporary,):
        temporary.write_text(text)


def run(target: object, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", WRITE, str(target)], timeout=60, text=True, **kwargs)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_standard_output_is_written_in_its_order(name):
    done = run(name, capture_output=True)
    assert (done.stdout, done.returncode) == ("before\nwritten\nafter\n", 0), done.stderr
    assert Path("/dev/stdout").is_symlink()


def test_a_file_that_is_the_standard_output_keeps_what_is_in_it(tmp_path):
    with (tmp_path / "out").open("w") as out:
        out.write("first\n")
        out.flush()
        run("/dev/stdout", stdout=out)
    assert (tmp_path / "out").read_text() == "first\nbefore\nwritten\nafter\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_the_standard_output_stays(tmp_path):
    (tmp_path / "log").symlink_to("/dev/stdout")
    assert run(tmp_path / "log", capture_output=True).stdout == "before\nwritten\nafter\n"
    assert os.readlink(tmp_path / "log") == "/dev/stdout"


def test_devices_and_pipes_are_written_through(tmp_path):
    write(Path("/dev/null"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(10)
    assert read == ["written"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_what_was_written(tmp_path, there):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("between")
    (tmp_path / "between").symlink_to("folder/file")
    if there:
        (tmp_path / "folder/file").write_text("before")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "between").is_symlink()
    assert (tmp_path / "folder/file").read_text() == "written"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]


def test_a_link_without_an_end_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="a link that leads to itself"):
        check_writable(tmp_path / "a")


def test_sockets_and_disks_are_refused(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
        with pytest.raises(UserError, match="it is a socket"), replacing(tmp_path / "socket"):
            pytest.fail("it is open")
    (tmp_path / "disk").touch()
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    with pytest.raises(UserError, match="it is a disk"), replacing(tmp_path / "disk"):
        pytest.fail("it is open")


def test_a_file_for_reading_only_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or Path(path) != tmp_path / "file")
    with pytest.raises(UserError, match="there, for reading only"):
        write(tmp_path / "file")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_mode_and_owner_of_what_is_replaced_stay(tmp_path, mode):
    (tmp_path / "file").write_text("before")
    (tmp_path / "file").chmod(mode)
    if os.geteuid() == 0:
        os.chown(tmp_path / "file", 1234, 5678)
    before = (tmp_path / "file").stat()
    write(tmp_path / "file")
    after = (tmp_path / "file").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_new_file_has_the_mode_that_the_user_gives_files(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_temporary_names_cannot_be_guessed_or_planted(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("before")
    names = []
    for _ in range(2):
        with replacing(tmp_path / "file") as (temporary,):
            names.append(temporary.name)
    assert names[0] != names[1]
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0123")
    (tmp_path / ".file.0123").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="File exists"):
        write(tmp_path / "file")
    assert (tmp_path / "victim").read_text() == "before"


def test_what_a_job_goes_on_with_is_its_users(tmp_path):
    check_own(tmp_path / "none")
    (tmp_path / "file").touch()
    check_own(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(UserError, match="link is not a file of yours"):
        check_own(tmp_path / "link")
    if os.geteuid() == 0:
        os.chown(tmp_path / "file", 1234, -1)
        with pytest.raises(UserError, match="file is not a file of yours"):
            check_own(tmp_path / "file")


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "victim").write_text("before")
    (tmp_path / "lock").symlink_to("victim")
    with pytest.raises(UserError, match="cannot write"), files.locked(tmp_path / "lock"):
        pytest.fail("it is locked")
    assert (tmp_path / "victim").read_text() == "before"


def test_names_by_date_are_free(tmp_path):
    path = tmp_path / "train.log"
    path.touch()
    names = []
    for _ in range(3):
        names.append(name_by_date(path))
        names[-1].touch()
    assert len(set(names)) == 3
