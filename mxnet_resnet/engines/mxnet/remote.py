"""Processes of a job on other machines, over ssh: all that goes through a shell, here or there, is quoted for it."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.hosts import Host

PASSED_ON = ("OMP_NUM_THREADS", "KMP_AFFINITY", "LD_LIBRARY_PATH", "DMLC_INTERFACE")  # of this process's environment
SSH = ("ssh", "-o", "StrictHostKeyChecking=no")


def starter(
    hosts: Sequence[Host], command: str, folder: str, call: Callable[[str], int]
) -> Callable[[int, int, Mapping[str, object]], None]:
    """What starts the servers and workers of a job on hosts in turn, to be called by dmlc_tracker.

    Args:
        command: for a shell.
        folder: to work in, from the home folder on where it is relative; or "": the folder of the same name as here.
        call: runs a shell command to its end.
    """

    def start(workers: int, servers: int, variables: Mapping[str, object]) -> None:
        for number in range(servers + workers):
            host = hosts[number % len(hosts)]
            role = "server" if number < servers else "worker"
            exported = {**_chosen(host), **variables, "DMLC_ROLE": role}
            words = [f"export {name}={shlex.quote(str(value))};" for name, value in exported.items()]
            remote = " ".join([*words, f"cd {shlex.quote(folder or os.getcwd())} || exit;", command])
            line = shlex.join([*SSH, host.target, "-p", str(host.port), remote])
            threading.Thread(target=call, args=[line], daemon=True).start()

    return start


def _chosen(host: Host) -> dict[str, str]:
    """What this process's environment, and the host file, say of the place of a process."""
    found = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return found if "DMLC_INTERFACE" in found else {**found, "DMLC_NODE_HOST": host.name}


def copy_here_to(folder: str, hosts: Sequence[Host]) -> None:
    """Copy the working folder to all hosts. Raises UserError."""
    for host in dict.fromkeys(hosts):
        shell = shlex.join([*SSH, "-p", str(host.port)])
        words = ["rsync", "-az", "--protect-args", "--rsh", shell, f"{os.getcwd()}/", f"{host.target}:{folder}"]
        try:
            status = subprocess.run(words, stdin=subprocess.DEVNULL).returncode
        except OSError as error:
            raise UserError(f"--sync-dst-dir needs rsync: {error.strerror}") from error
        if status:
            raise UserError(f"rsync could not copy {os.getcwd()} to {host.target}:{folder} (status {status})")
