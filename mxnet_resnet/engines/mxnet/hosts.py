"""The hosts of a job, as a host file names them: none of it is ever a word of a shell, or an option."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError

SSH_PORT = 22
MOST_TEXT = 2**20  # bytes of a host file
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"  # of a host, an address of IPv4, or a user: neither a shell's word nor an option
LINE = re.compile(rf"((?:{NAME}@)?)({NAME})(?::([0-9]{{1,5}}))?((?:\s+[A-Za-z_-]+=[0-9]+)*)")
COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Host:
    """A machine that runs processes: its name or address, the port of its sshd, and ``user@name``, as ssh takes it."""

    name: str
    port: int
    target: str


def check_host(name: str) -> str:
    """The name or address of a host. Raises UserError for what is none."""
    if not re.fullmatch(NAME, name):
        raise UserError(f"--host {name!r} is no host: give a name or an address of IPv4")
    return name


def read_hosts(hostfile: str) -> list[Host]:
    """The hosts of a file, one a line: ``node1``, ``user@node1:2222``, or with ``slots=4`` as mpirun takes it.

    Raises UserError where a line is anything else, and where there is none.
    """
    try:
        text = sources.read(hostfile, "the host file", MOST_TEXT).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"the host file {hostfile} is no text") from error
    lines = enumerate((COMMENT.sub("", line).strip() for line in text.split("\n")), 1)
    hosts = [_read_line(line, f"{hostfile}, line {number}") for number, line in lines if line]
    if not hosts:
        raise UserError(f"{hostfile} names no host: one a line, as in node1 or node1:22")
    return hosts


def _read_line(line: str, place: str) -> Host:
    found = LINE.fullmatch(line)
    if not found:
        wanted = "a name or an address of IPv4, as in node1, node1:2222 or user@node1"
        raise UserError(f"{place}: {line[:80]!r} is no host: write {wanted}")
    user, name, port, _ = found.groups()
    if port and not 0 < int(port) < 65536:
        raise UserError(f"{place}: {port} is no port: one is from 1 to 65535")
    return Host(name, int(port or SSH_PORT), f"{user}{name}")
