"""What files from elsewhere hide: sizes that no file has, parts that stand for many. And files changed at random."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import imagenet, matfile, tars
from mxnet_resnet.data.cifar import DATASETS
from mxnet_resnet.data.cifarfiles import read_pickle
from mxnet_resnet.settings import recipes
from mxnet_resnet.use import reading
from tests.helpers import REPOSITORY
from tests.helpers.archives import devkit, meta_mat

SEED, CASES, BATCH, SECONDS = 20, 6000, 1500, 600


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "data, reason",
    [
        (header("x", tarfile.GNUTYPE_LONGNAME, 1 << 40), "a header claims more"),
        (header("x", tarfile.XHDTYPE, 1 << 31), "a header claims more"),
        (header("a.JPEG", size=1 << 62), "ends inside of a.JPEG: it is cut short"),
        (header("a.JPEG", size=-512), "ends inside of a.JPEG"),
        (header("x", tarfile.GNUTYPE_LONGNAME, 1) * 3000, "no header of a tar|no tar"),
    ],
)
def test_headers_of_tars_that_claim_much_are_told(tmp_path, data, reason):
    path = tmp_path / "a.tar"
    path.write_bytes(data + bytes(1024))
    with pytest.raises(UserError, match=reason):
        tars.find_images(path, tmp_path, in_classes=False)


def test_a_sparse_file_is_not_taken_for_what_it_says(tmp_path):
    data = bytearray(header("a.JPEG", tarfile.GNUTYPE_SPARSE))
    data[483:495] = b"\x80" + (1 << 63).to_bytes(11, "big")  # its real size
    data[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(data))[0]
    (tmp_path / "a.tar").write_bytes(bytes(data) + bytes(1024))
    with pytest.raises(UserError, match=r"a\.JPEG is a sparse file"):
        tars.find_images(tmp_path / "a.tar", tmp_path, in_classes=False)


def test_a_development_kit_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path = devkit(tmp_path / "kit.tar.gz", ["1"])
    assert len(imagenet._read_devkit(path)[0]) > 1000
    with gzip.open(path, "wb") as file:
        file.write(header(f"kit/{imagenet.META}", size=3 << 30) + bytes(1 << 20))
    with pytest.raises(UserError, match="unpacks to more than 536,870,912 bytes"):
        imagenet._read_devkit(path)
    with gzip.open(path, "wb") as file:
        file.write(header(f"kit/{imagenet.META}", size=1 << 25) + bytes(1 << 25) + bytes(1024))
    with pytest.raises(UserError, match=r"meta.mat has 33,554,432 bytes, too many"):
        imagenet._read_devkit(path)
    with gzip.open(path, "wb") as file:
        file.write(header("x", tarfile.GNUTYPE_LONGNAME, 3 << 20) + bytes(3 << 20))
    with pytest.raises(UserError, match=r"kit.tar.gz is not a whole tar file .*a header claims more"):
        imagenet._read_devkit(path)


def test_files_of_matlab_are_read_without_belief():
    ids = {1: "n01440764", 2: "n01443537"}
    packed = io.BytesIO()
    rows = np.array([(key, name) for key, name in ids.items()], [("ILSVRC2012_ID", "O"), ("WNID", "O")])
    savemat(packed, {"other": 3.0, "synsets": rows.reshape(-1, 1)}, do_compression=True)
    for data in (packed.getvalue(), meta_mat(ids)):
        found = matfile.read_structures(data, "synsets")
        assert {int(row["ILSVRC2012_ID"]): row["WNID"] for row in found}.items() >= ids.items()
        for cut in range(0, len(data), 7):
            with pytest.raises((ValueError, struct.error, zlib.error)):
                matfile.read_structures(data[:cut], "synsets")
    bomb = zlib.compress(struct.pack("<II", 14, 1 << 28) + bytes(1 << 28))
    with pytest.raises(ValueError, match="unpacks to more"):
        matfile.read_structures(meta_mat(ids)[:128] + struct.pack("<II", 15, len(bomb)) + bomb, "synsets")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}(U\x06labelsI1\n2" + b"\x862" * 60 + b"\x86U\x04dataNu.",  # a pair of pairs of pairs ...
        b"\x80\x02}(I1\n2" + b"\x862" * 60 + b"\x86U\x04datau.",  # as a key, which is hashed
        b"\x80\x05(I1\n2" + b"\x862" * 60 + b"\x86\x91.",  # in a set
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place in the memo far behind all others
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a terabyte to come
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        pickle.dumps({b"labels": [10**400, 1], b"data": 1}, 2),
        pickle.dumps({b"labels": range(3), b"data": 1}, 2),
    ],
)
def test_pickles_that_stand_for_much_are_told(data):
    with pytest.raises(UserError, match="case is not a pickled CIFAR batch: "):
        read_pickle(data, 2, DATASETS["cifar10"], "case")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("lr-steps: &a [1, 1]\nlr: *a\n", "has no aliases"),
        ("lr: &a [*a]\n", "has no aliases"),
        ("lr: " + "[" * 5000, "is not YAML"),
        ("lr: " + "9" * 5000, "is not YAML|--lr"),
        ("lr: 2001-99-99\n", "is not YAML"),
        ("lr: !!binary é\n", "is not YAML"),
        ("lr: 1\nlr: 2\n", "the key 'lr' stands there twice"),
        ("[1]: 2\n", "is not YAML"),
        ("# " + "x" * 70_000 + "\nlr: 1\n", "more than 65,536 bytes"),
    ],
)
def test_recipes_that_stand_for_much_are_told(tmp_path, text, reason):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"a\.yaml.*({reason})"):
        recipes.load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    "changed",
    [
        {"dimensions": [[1, 16], [100_000_000, 16]]},
        {"dimensions": [[1, 16]] + [[1000, 16]] * 11},
        {"dimensions": [[1, 1 << 40], [1, 16]]},
        {"dimensions": "ab"},
        {"width": "3"},
        {"epsilon": [1]},
        {"shortcut": {}},
        {"source": "x" * 70_000},
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_notes_of_nets_that_nobody_can_make_are_told(tmp_path, changed):
    plan = {"dimensions": [[1, 16], [1, 16]], "bottleneck": False, "preact": True, "small_images": True, "source": ""}
    path = tmp_path / "a-architecture.json"
    path.write_text(json.dumps(plan))
    assert reading._read_note(path).dimensions == ((1, 16), (1, 16))
    path.write_text(changed if isinstance(changed, str) else json.dumps({**plan, **changed}))
    with pytest.raises(UserError):
        reading._read_note(path)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["images", "archives", "texts", "records", "state_dicts", "logs", "checkpoints"])
def test_files_changed_at_random_are_read_or_refused(tmp_path, door):
    """No traceback, no signal, no case of a gigabyte or of 20 seconds."""
    if door == "state_dicts" and not importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is not installed")
    seed = int(os.environ.get("FUZZ_SEED", SEED))
    counts: Counter[str] = Counter()
    for begin in range(0, CASES, BATCH):
        command = [sys.executable, "-m", "tests.helpers.doorfuzz", door, tmp_path, seed, begin, begin + BATCH]
        done = subprocess.run(
            [*map(str, command)], cwd=REPOSITORY, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        told = f"seed {seed}, status {done.returncode}: {done.stdout[-80:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, told
        counts.update(json.loads(done.stdout.splitlines()[-1]))
    print(f"seed {seed}: {dict(counts)}")
    assert counts["read"] and (counts["refused"] > CASES // 10 or door == "logs")  # a line in it makes a log


@pytest.mark.parametrize("line", ["lr: 0x" + "f" * 5000, "? 0x" + "f" * 5000 + "\n: 1"])
def test_numbers_that_python_does_not_write_are_told(tmp_path, line):
    (tmp_path / "a.yaml").write_text(line + "\n")
    with pytest.raises(UserError, match=r"a\.yaml has a number that is too large"):
        recipes.load(str(tmp_path / "a.yaml"))


def test_a_mat_file_whose_part_unpacks_to_nothing_is_told():
    empty = zlib.compress(b"")
    data = bytes(126) + b"IM" + struct.pack("<II", 15, len(empty)) + empty
    with pytest.raises(ValueError, match="it has no structures synsets"):
        matfile.read_structures(data, "synsets")
