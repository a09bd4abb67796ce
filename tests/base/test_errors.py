"""How commands end: what is told as a sentence, what as a traceback, and outputs that take nothing any more."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mxnet_resnet.base import errors, names, reasons, sources
from mxnet_resnet.base.errors import UserError
from tests.helpers import REPOSITORY

LOG = REPOSITORY / "log/digits.log"
CPU_OF_PYTORCH = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "140737488355328 bytes. Error code 12 (Cannot allocate memory)"
)


def end(error: BaseException) -> BaseException:
    """The error as it comes to the end of a command, raised by a function of this test."""
    try:
        raise error
    except BaseException as raised:
        return raised


@pytest.mark.parametrize(
    "error, told",
    [
        (UserError("a is not b"), "a is not b"),
        (PermissionError(errno.EACCES, "Permission denied", "a.rec"), "cannot use a.rec: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", b"a"), "cannot use a: Is a directory"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write: No space left on device"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot read or write: Too many open files"),
        (MemoryError(), "the memory of the computer is too small: the program asked for more than there is"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the memory of the computer is too small"),
        (
            RuntimeError(CPU_OF_PYTORCH),
            "the memory of the computer is too small: the program asked for 140737488355328",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            "the memory of the GPU .* 2.00 GiB",
        ),
        (RuntimeError("cudaMalloc retry failed: out of memory"), "the memory of the GPU is too small"),
        (RuntimeError("std::bad_alloc"), "the memory of the computer is too small"),
        (OSError("libmxnet.so: failed to map segment from shared object"), "the memory of the computer is too small"),
        (RuntimeError("MXNetError: Resource temporarily unavailable"), "the system starts no more threads"),
        (RuntimeError("can't start new thread"), "the system starts no more threads"),
        (OverflowError("int too large to convert to float"), "a number is too large to compute with: int too large"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "'é' cannot be written as ascii"),
    ],
)
def test_what_is_not_our_fault_is_a_sentence(capsys, error, told):
    assert errors.report(end(error)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert re.match(f"error: {told}", err), err


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), OSError("no"), OSError(errno.EBADF, "no")])
def test_what_may_be_our_fault_is_a_traceback(capsys, error):
    assert errors.report(end(error)) == 1
    assert capsys.readouterr().err.startswith("Traceback")


def test_the_traceback_can_be_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("MXNET_RESNET_TRACEBACK", "1")
    assert errors.report(end(UserError("a is not b"))) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("\nerror: a is not b\n")


def test_who_asked_for_how_much_memory_is_told(monkeypatch):
    def grow(size):
        return cv2.resize(np.zeros((4, 4), np.uint8), (size, size))

    for act in (lambda: np.zeros(1 << 55), lambda: grow(2_000_000)):
        with pytest.raises(Exception) as raised:
            act()
        assert reasons.lacks_memory(raised.value)
    monkeypatch.setattr(sources, "_read", lambda *_: np.zeros(1 << 55))
    with pytest.raises(MemoryError) as raised:
        sources.read(LOG, "log")
    assert reasons.find_reason(raised.value) == (
        "the memory of the computer is too small: read (base/sources.py) asked for 256 PiB"
    )


def test_deep_json_is_told_and_endless_recursion_is_ours():
    with pytest.raises(RecursionError) as raised:
        json.loads("[" * 100_000)
    assert reasons.find_reason(raised.value) == "a file is nested too deeply to be read"

    def call():
        return call()

    with pytest.raises(RecursionError) as raised:
        call()
    assert reasons.find_reason(raised.value) is None


def run(script: str, **environment: str) -> subprocess.CompletedProcess:
    """A line for bash, in which $R runs a command of ours."""
    before = f'R="{sys.executable} -m mxnet_resnet"\n'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", before + script],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )


@pytest.mark.parametrize("command", ["--help", f"aggregate --logs {LOG}", "predict --help", "train --list-networks"])
def test_a_full_disk_under_what_is_printed_is_told(command):
    done = run(f"$R {command} > /dev/full")
    assert (done.returncode, done.stderr) == (2, b"error: cannot write: No space left on device\n")


def test_the_reader_of_what_is_printed_may_go():
    done = run(f"$R aggregate --logs {LOG} | true")
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_no_status(tmp_path, closed):
    assert run(f"$R aggregate --logs {LOG} --csv {tmp_path}/a.csv {closed}").returncode == 0
    assert (tmp_path / "a.csv").read_text().startswith("runs,")
    done = run(f"$R aggregate --logs none {closed}")
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1", "ascii:replace"])
def test_names_of_any_bytes_can_be_printed(tmp_path, encoding):
    folder = os.fsencode(tmp_path) + b"/a\xff\xc3\xa9\xe2\x82\xac"
    os.mkdir(folder)
    with open(folder + b"/train.log", "wb") as file:
        file.write(LOG.read_bytes())
    done = run(f"cd {tmp_path} && $R aggregate --logs */train.log --csv a.csv", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    printed = {"ascii": b"a\xff\\xe9\\u20ac", "utf-8": b"a\xff\xc3\xa9\xe2\x82\xac", "latin-1": b"a\xff\xe9\\u20ac"}
    assert printed.get(encoding, b"a???") in done.stdout
    assert "a\\udcffé€" in (tmp_path / "a.csv").read_text()


def test_a_stream_that_replaces_goes_on_doing_so():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace")
    names.let_be_printed(stream)
    assert stream.errors == "replace"
    names.let_be_printed(None)
    names.let_be_printed(io.StringIO())


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket", "large", "missing", "null"])
def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch, kind):
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        path.touch()
        os.truncate(path, 1 << 40)
    elif kind == "null":
        path = tmp_path / "a\0b"
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            monkeypatch.chdir(tmp_path)  # a long name cannot be bound
            opened.bind("a")
    with pytest.raises(UserError, match="cannot read log ") as raised:
        sources.read(path, "log", streams=True)
    reasons_told = {"large": "more than 64 MiB", "missing": "No such file", "null": "null"}
    assert reasons_told.get(kind, f"it is a {kind}, not a file") in str(raised.value)


def test_a_log_is_read_from_the_standard_input_and_from_a_substitution():
    expected = run(f"$R aggregate --logs {LOG}").stdout.replace(b"digits", b"")
    for script in (f"$R aggregate --logs /dev/stdin < {LOG}", f"cat {LOG} | $R aggregate --logs /dev/stdin"):
        done = run(script)
        assert (
            done.returncode == 0
            and done.stdout.splitlines()[-1].split(b"|")[2:] == (expected.splitlines()[-1].split(b"|")[2:])
        ), done.stderr
    assert run(f"$R aggregate --logs <(cat {LOG})").returncode == 0


def test_a_stream_without_end_is_refused(tmp_path):
    with open("/dev/zero", "rb") as zeros:
        path = tmp_path / "log"
        path.symlink_to(f"/dev/fd/{zeros.fileno()}")
        with pytest.raises(UserError, match="it has more than 2 MiB"):
            sources.read(path, "log", most=2 << 20, streams=True)
