"""Processes that get ready side by side, which compilers do on the CPU, and are measured in turn."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

from benchmarks.common import TOOLS, check_status
from mxnet_resnet.base.errors import UserError

MODULE, READY = "benchmarks.gpu_steps", "ready"


class Contender:
    """One process, which is started, and gets ready.

    Args:
        name: what to call it.
        words: the arguments of MODULE.
    """

    def __init__(self, name: str, words: list[str]):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (`end` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *words],
            cwd=TOOLS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def wait_until_ready(self, seconds: float) -> None:
        """Raises UserError where it failed, or is not ready after ``seconds``."""
        with self._limited(seconds):
            self._read_until(READY)

    def measure(self, seconds: float) -> dict[str, float]:
        """The figures that it prints. Raises UserError where it failed, or takes more than ``seconds``."""
        with self._limited(seconds), suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        with self._limited(seconds):
            return json.loads(self._read_until("{"))

    def end(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _read_until(self, beginning: str) -> str:
        """The next line that begins so. Raises UserError where there is none any more."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        status = self._process.wait()
        self._errors.seek(0)
        check_status(self.name, status, self._errors.read().splitlines())
        raise UserError(f"{self.name} ended without a figure")

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        started = time.perf_counter()
        timer = Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        except UserError as error:
            if time.perf_counter() - started >= seconds:
                raise UserError(f"{self.name} took more than {seconds:.0f} s") from error
            raise
        finally:
            timer.cancel()
