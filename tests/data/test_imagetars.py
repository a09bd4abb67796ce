"""Tars of ImageNet: their headers, the index that is kept of them, and tars that are bad."""

import os
import random
import re
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import tars as imagetars
from tests.helpers.archives import CLASSES, arguments, jpeg, refused, tar_of, tar_of_tars


def test_tars_with_headers_of_pax_and_folders_are_read(tmp_path):
    long = "x" * 150 + ".JPEG"
    classes = {CLASSES[0]: {"a/ä\n.JPEG": b"1", long: b"22"}, CLASSES[1]: {}}
    (tmp_path / "a.tar").write_bytes(tar_of_tars(classes, tarfile.PAX_FORMAT))
    images = imagetars.find_images(tmp_path / "a.tar", tmp_path, in_classes=True)
    assert images.counts().tolist() == [2, 0]
    assert [images.name(n) for n in range(2)] == [f"{CLASSES[0]}/ä?.JPEG", f"{CLASSES[0]}/{long}"[:100]]
    with (tmp_path / "a.tar").open("rb") as file:
        assert [images.read(file, n) for n in range(2)] == [b"1", b"22"]


def test_the_index_is_kept_until_the_tar_changes(tars, tmp_path, monkeypatch):
    tar = tmp_path / "a.tar"
    tar.write_bytes((tars / "train.tar").read_bytes())
    first = imagetars.find_images(tar, tmp_path, in_classes=True)
    walk = imagetars._walk_classes
    walks = []
    monkeypatch.setattr(imagetars, "_walk_classes", lambda *given: walks.append(given) or walk(*given))
    again = imagetars.find_images(tar, tmp_path, in_classes=True)
    assert not walks and again.classes == first.classes and (again.table == first.table).all()
    os.utime(tar, (0, 0))
    imagetars.find_images(tar, tmp_path, in_classes=True)
    (tmp_path / ".a.tar.index.npz").write_bytes(b"damaged")
    imagetars.find_images(tar, tmp_path, in_classes=True)
    assert len(walks) == 2


def bad_tar(tars: Path, kind: str) -> bytes:
    data = (tars / "train.tar").read_bytes()
    inner = {"n00000001.tar": b"no tar" * 200}
    return {
        "cut": data[: len(data) // 2],
        "inner": tar_of({f"{CLASSES[0]}.tar": tar_of({"a": b"b"}), **inner}),
        "inner cut": tar_of({f"{CLASSES[0]}.tar": tar_of({"a": bytes(20000)})[:9000]}),
        "files": tar_of({"a.JPEG": jpeg()}),
        "twice": tar_of({f"{CLASSES[0]}.tar": b"", f"./{CLASSES[0]}.tar": b""}),
        "none": tar_of({}),
        "empty": b"",
        "other class": tar_of_tars({"n99999999": {"a": b"b"}}),
        "empty class": tar_of_tars({CLASSES[0]: {"a": b"b"}, CLASSES[1]: {}}),
        "text": b"this is no tar" * 1000,
    }[kind]


@pytest.mark.parametrize(
    "kind, message",
    [
        ("cut", r"byte \d+: the tar ends inside of n\d+"),
        ("inner", r"n00000001.tar, byte \d+: no header of a tar"),
        ("inner cut", rf"{CLASSES[0]}.tar, byte \d+: the tar ends inside of a"),
        ("files", "'a.JPEG' is no tar of a class"),
        ("twice", "is the second tar of its class"),
        ("none", "holds no images"),
        ("empty", "is no tar"),
        ("other class", "n99999999 is none of the 1000 classes"),
        ("empty class", f"{CLASSES[1]} has no images"),
        ("text", "is no tar"),
    ],
)
def test_a_bad_training_tar_is_told(tars, tmp_path, command, capsys, kind, message):
    (tmp_path / "bad.tar").write_bytes(bad_tar(tars, kind))
    err = refused(command, capsys, tmp_path, *arguments(tars, tmp_path, "--train", tmp_path / "bad.tar"))
    assert str(tmp_path / "bad.tar") in err and re.search(message, err)


def test_a_tar_cut_anywhere_is_told(tmp_path):
    whole = tar_of_tars({name: {"a": b"b" * 700, "c": b"d"} for name in CLASSES})
    end = len(whole.rstrip(b"\0")) // 512 * 512
    for size in range(0, end, 256):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"cut\.tar"):
            imagetars.find_images(tmp_path / "cut.tar", tmp_path, in_classes=True)


def test_a_tar_with_flipped_bits_ends_in_a_sentence_or_in_images(tmp_path):
    whole = tar_of_tars({name: {"ä": b"b" * 700, "c": b"d"} for name in CLASSES}, tarfile.PAX_FORMAT)
    rng = random.Random(0)
    path = tmp_path / "flipped.tar"
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with suppress(UserError):
            imagetars.find_images(path, tmp_path, in_classes=True)
