"""Processes of a test: each in a group of its own, and none that outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mxnet_resnet.engines.mxnet import compat
from tests.helpers import REPOSITORY

LAUNCH = [sys.executable, str(REPOSITORY / "tools/launch.py")]


class Started:
    """A process in a group of its own, whose output goes to a file."""

    def __init__(self, command: list[str], output: Path, **environment: str):
        self.output = output
        inherited = {name: text for name, text in os.environ.items() if name not in compat.chosen}
        with output.open("wb") as file:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait(self, seconds: float = 120) -> int:
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds} s; it said:\n{self.text}")

    def wait_for(self, text: str, count: int = 1, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.text.count(text) < count:
            assert time.monotonic() < deadline and self.popen.poll() is None, self.text
            time.sleep(0.1)

    def kill(self) -> None:
        for pid in [self.popen.pid, *descendants(self.popen.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait(30)


def descendants(pid: int) -> list[int]:
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def fake(folder: Path, name: str, text: str) -> str:
    """A PATH on which a command is a script of ours."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return f"{path.parent}:{os.environ['PATH']}"
