"""Host files, read as data."""

from __future__ import annotations

import random
import re
import shlex

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet.hosts import MOST_TEXT, Host, read_hosts


def read(folder, text: str) -> list[Host]:
    (folder / "hosts").write_text(text, encoding="utf-8", errors="surrogatepass")
    return read_hosts(str(folder / "hosts"))


def test_hosts_are_names_ports_and_users(tmp_path):
    text = (
        "# ours\nnode1\r\n\n me@node-2.example.org:2222 \n10.0.0.3 slots=4 max-slots=8 # the third\nnode_4:22 slots=1"
    )
    assert read(tmp_path, text) == [
        Host("node1", 22, "node1"),
        Host("node-2.example.org", 2222, "me@node-2.example.org"),
        Host("10.0.0.3", 22, "10.0.0.3"),
        Host("node_4", 22, "node_4"),
    ]


@pytest.mark.parametrize("text", ["", "\n \n", "# node1\n"])
def test_a_file_without_hosts_is_told(tmp_path, text):
    with pytest.raises(UserError, match="hosts names no host: one a line, as in node1 or node1:22"):
        read(tmp_path, text)


def test_files_that_hold_no_hosts_are_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the host file .*: it is a folder"):
        read_hosts(str(tmp_path))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="bytes is no text"):
        read_hosts(str(tmp_path / "bytes"))
    with pytest.raises(UserError, match="it has more than 1 MiB"):
        read(tmp_path, "a" * (MOST_TEXT + 1))


@pytest.mark.slow
def test_whatever_a_file_says_hosts_are_words(tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    parts = [
        *"aZ09._-@:=#$`;|&<>(){}[]*?~!'\"\\ \t\r\n\0",
        "é",
        "node",
        "slots=2",
        "22",
        "-oProxyCommand=x",
        "::1",
        "\u2028",
    ]
    for _ in range(5000):
        text = "node1" + "".join(draw.choices(parts, k=draw.randrange(8)))
        try:
            found = read(tmp_path, text)
        except UserError:
            continue
        for host in found:
            assert re.fullmatch(r"[\w.@-]+", host.target, re.ASCII) and not host.target.startswith("-"), (seed, text)
            assert shlex.quote(host.target) == host.target and not host.name.startswith("-"), (seed, text)
            assert 0 < host.port < 65536
