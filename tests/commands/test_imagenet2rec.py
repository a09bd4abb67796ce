"""tools/imagenet2rec.py: labels, sizes and pixels, jobs that are interrupted, and arguments that are bad."""

import errno
import io
import os
import queue
import random
import re
import runpy
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mxnet_resnet.data import tarrecords, writer
from mxnet_resnet.data.decoding import decode
from tests.helpers import REPOSITORY
from tests.helpers.archives import (
    CLASSES,
    ILSVRC_IDS,
    QUICK,
    RECORDS,
    SYNSET,
    arguments,
    devkit,
    jpeg,
    make,
    refused,
    sources,
    tar_of,
    tar_of_tars,
    val_labels,
    written,
)
from tests.helpers.pictures import photograph
from tests.helpers.recordfiles import files_of


def mxnets(data: bytes, folder: Path, size: int) -> bytes:
    """The image as MXNet's own im2rec writes it."""
    im2rec = runpy.run_path(str(Path(mx.__file__).parent / "tools/im2rec.py"))
    (folder / "image").write_bytes(data)
    results = queue.Queue()
    flags = {"root": str(folder), "pass_through": False, "color": 1, "center_crop": False, "pack_label": False}
    im2rec["image_encode"](Namespace(**flags, resize=size, quality=90, encoding=".jpg"), 0, [0, "image", 0.0], results)
    return mx.recordio.unpack(results.get()[1])[1]


def test_labels_sizes_and_pixels_are_right(tars, tmp_path, command, capsys):
    told = make(command, capsys, *arguments(tars, tmp_path))
    assert "warning: train has 18 images, and ILSVRC 2012 1,281,167" in told
    expected = {**sources(tars / "train.tar"), **sources(tars / "val.tar")}
    names = sorted(name for name in expected if "val" in name)
    labels = {**dict(zip(names, val_labels())), **{name: name[:9] for name in expected if "val" not in name}}
    seen = {}
    for file, size in zip(RECORDS, (64, 32, 256)):
        seen[file] = written(tmp_path / file)
        for name, (label, image) in seen[file].items():
            assert CLASSES[label] == labels[name]
            assert min(decode(image).shape[:2]) == size
            assert image == mxnets(expected[name], tmp_path, size)
        assert f"{tmp_path / file}: {len(seen[file])} images\n" in told
    assert set(seen[RECORDS[0]]) | set(seen[RECORDS[2]]) == set(expected)
    assert list(seen[RECORDS[0]]) == list(seen[RECORDS[1]]) != sorted(seen[RECORDS[0]])
    assert [line.split()[0] for line in (tmp_path / "synset.txt").read_text().splitlines()] == CLASSES


def test_the_1000_classes_have_the_labels_of_the_published_list(tmp_path, command, capsys):
    image = jpeg()
    train = {name: {f"{name}_1.JPEG": image} for name in reversed(SYNSET)}
    (tmp_path / "train.tar").write_bytes(tar_of_tars(train))
    given = ("--train", tmp_path / "train.tar", "--only", "train", "--out", tmp_path / "out", "--sizes", 16)
    make(command, capsys, *given)
    found = written(tmp_path / "out/train_16_q90.rec")
    assert {name[:9]: label for name, (label, _) in found.items()} == dict(zip(SYNSET, range(1000)))
    assert (tmp_path / "out/synset.txt").read_text() == (REPOSITORY / "predict/synset.txt").read_text()


def test_validation_alone_has_the_labels_of_all_classes(tars, tmp_path, command, capsys):
    given = ("--val", tars / "val.tar", "--devkit", tars / "devkit.tar.gz", "--only", "val", "--out", tmp_path)
    make(command, capsys, *given)
    assert {SYNSET[label] for label, _ in written(tmp_path / "val_256_q90.rec").values()} == set(CLASSES)


def test_validation_images_of_other_classes_are_left_out(tars, tmp_path, command, capsys):
    labels = [SYNSET[0], *val_labels()[1:]]
    told = make(command, capsys, *arguments(tars, tmp_path, "--devkit", devkit(tmp_path / "kit.tgz", labels)))
    assert "1 images are of classes that" in told and len(written(tmp_path / RECORDS[2])) == 5


@pytest.mark.parametrize("form", ["wordnet ids", "numbers", "files and ranks", "files and wordnet ids"])
def test_every_form_of_validation_labels_means_the_same(tars, tmp_path, command, capsys, form):
    numbers = {wordnet_id: number for number, wordnet_id in ILSVRC_IDS.items()}
    files = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 7)]
    lines = {
        "wordnet ids": val_labels(),
        "numbers": [str(numbers[label]) for label in val_labels()],
        "files and ranks": [f"{file} {SYNSET.index(label)}" for file, label in zip(files, val_labels())][::-1],
        "files and wordnet ids": [f"val/{file} {label}" for file, label in zip(files, val_labels())],
    }
    (tmp_path / "labels").write_text("\n".join(lines[form]) + "\n")
    kit = ("--devkit", tars / "devkit.tar.gz") if form == "numbers" else ()
    make(command, capsys, *arguments(tars, tmp_path, "--only", "val", "--val-labels", tmp_path / "labels", *kit))
    found = written(tmp_path / RECORDS[2])
    assert [CLASSES[found[file][0]] for file in files] == val_labels()


def odd_images() -> dict[str, bytes]:
    """A PNG, a CMYK, a grey and a turned image, all named .JPEG, of one motive, and four that cannot be used."""
    motive = Image.fromarray(photograph(60, 80, 3))
    files = {}
    for name, image, form in (("png", motive, "PNG"), ("cmyk", motive.convert("CMYK"), "JPEG")):
        files[name] = io.BytesIO()
        image.save(files[name], form, **({"quality": 95} if form == "JPEG" else {}))
    files["grey"], files["turned"], turned = io.BytesIO(), io.BytesIO(), Image.Exif()
    motive.convert("L").save(files["grey"], "JPEG")
    turned[0x0112] = 6
    motive.transpose(Image.Transpose.ROTATE_90).save(files["turned"], "JPEG", exif=turned, quality=95)
    good = {f"{name}.JPEG": data.getvalue() for name, data in files.items()}
    return {**good, "cut.JPEG": jpeg(200, 200)[:700], "empty.JPEG": b"", "no.JPEG": b"x" * 99, "line": jpeg(1, 4000)}


def test_odd_images_become_rgb_and_bad_ones_are_listed(tmp_path, command, capsys):
    (tmp_path / "train.tar").write_bytes(tar_of_tars({CLASSES[0]: odd_images()}))
    given = ("--train", tmp_path / "train.tar", "--only", "train", "--allow-partial", "--out", tmp_path, *QUICK)
    told = make(command, capsys, *given)
    found = written(tmp_path / RECORDS[0])
    assert {Path(name).stem for name in found} == {"png", "cmyk", "grey", "turned"}
    assert "train_64_q90.rec: 4 images, 4 left out" in told
    motive = cv2.resize(photograph(60, 80, 3), (85, 64))
    for name, channels in (("png", 3), ("cmyk", 3), ("turned", 3), ("grey", 1)):
        image = decode(found[f"{CLASSES[0]}/{name}.JPEG"][1]).astype(int)
        reference = motive if channels == 3 else cv2.cvtColor(motive, cv2.COLOR_RGB2GRAY)[:, :, None]
        assert image.shape == motive.shape and np.abs(image - reference).mean() < 6, name
    report = (tmp_path / "train_64_q90.unreadable.txt").read_text().splitlines()
    reasons = dict(line.split("\t") for line in report)
    assert reasons.pop(f"{CLASSES[0]}/line") == "is too narrow to be 64 pixels wide"
    assert len(reasons) == 3 and all(reason.startswith("does not decode: it ") for reason in reasons.values())


def test_a_job_interrupted_at_random_points_ends_the_same(tars, tmp_path, command, capsys, monkeypatch):
    make(command, capsys, *arguments(tars, tmp_path / "whole"))
    write = writer.RecordWriter.write
    rng, interrupts = random.Random(1), 0
    left = [0]

    def interrupted(self, *given):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        write(self, *given)

    monkeypatch.setattr(writer.RecordWriter, "write", interrupted)
    status = 130
    while status == 130:
        left[0] = rng.randint(2, 9)
        status, _, _ = command(capsys, "tools/imagenet2rec.py", *arguments(tars, tmp_path / "parts"))
        interrupts += status == 130
    assert status == 0 and interrupts > 4
    assert files_of(tmp_path / "parts", "[!.]*") == files_of(tmp_path / "whole", "[!.]*")


def test_a_killed_job_ends_the_same(tars, tmp_path, command, capsys):
    make(command, capsys, *arguments(tars, tmp_path / "whole", "--sizes", "1600"))
    given = arguments(tars, tmp_path / "parts", "--sizes", "1600", "--num-workers", "1")
    process = subprocess.Popen([sys.executable, REPOSITORY / "tools/imagenet2rec.py", *map(str, given)])
    part = tmp_path / "parts/.train_1600_q90.rec.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size > 500000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "parts/train_1600_q90.rec").exists()
    make(command, capsys, *given)
    assert files_of(tmp_path / "parts", "[!.]*") == files_of(tmp_path / "whole", "[!.]*")


def test_what_is_finished_is_not_made_again(tars, tmp_path, command, capsys, monkeypatch):
    make(command, capsys, *arguments(tars, tmp_path))
    monkeypatch.setattr(tarrecords, "_encode_versions", None)
    make(command, capsys, *arguments(tars, tmp_path))
    monkeypatch.undo()
    make(command, capsys, *arguments(tars, tmp_path, "--seed", 1, "--only", "train"))
    assert len(written(tmp_path / RECORDS[0])) == 18


def test_mxnets_reader_reads_the_records(tars, tmp_path, command, capsys):
    make(command, capsys, *arguments(tars, tmp_path))
    path = tmp_path / RECORDS[2]
    reader = mx.io.ImageRecordIter(path_imgrec=str(path), data_shape=(3, 224, 224), batch_size=6, verbose=False)
    batch = next(reader)
    labels = [label for label, _ in written(path).values()]
    assert batch.label[0].asnumpy().tolist() == labels
    indexed = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    assert [mx.recordio.unpack(indexed.read_idx(key))[0].label for key in indexed.keys] == labels


def test_real_photographs(tmp_path, shared, command, capsys):
    classes: dict[str, dict[str, bytes]] = {}
    for file in sorted((shared / "imagenet_samples/images").iterdir())[::8]:
        classes.setdefault(file.name[:9], {})[file.name] = file.read_bytes()
    (tmp_path / "train.tar").write_bytes(tar_of_tars(classes))
    given = ("--train", tmp_path / "train.tar", "--only", "train", "--allow-partial", "--out", tmp_path)
    make(command, capsys, *given)
    originals = sources(tmp_path / "train.tar")
    for size in (480, 256):
        found = written(tmp_path / f"train_{size}_q90.rec")
        assert set(found) == set(originals)
        for name, (label, image) in found.items():
            assert sorted(classes)[label] == name[:9] and image == mxnets(originals[name], tmp_path, size)


@pytest.mark.parametrize(
    "flag, value, message",
    [
        ("--train", "none.tar", "No such file"),
        ("--train", ".", "it is a folder"),
        ("--val", "none.tar", "No such file"),
        ("--devkit", "none.tgz", "cannot read the development kit"),
        ("--devkit", "text", "cannot read the development kit"),
        ("--devkit", "other.tgz", "has no data/meta.mat"),
        ("--devkit", "unlike.tgz", "does not tell the ILSVRC2012_ID"),
        ("--devkit", "short.tgz", "has 5 labels, and .*val.tar 6 images"),
        ("--devkit", "strange.tgz", "the label '1001' is of no class"),
        ("--val-labels", "none", "cannot read the labels"),
        ("--val-labels", "text", "line 2: neither a label nor"),
        ("--val-labels", "numbers", "--devkit tells what numbers mean"),
        ("--val-labels", "files", "has no label of ILSVRC2012_val_00000001.JPEG"),
        ("--out", "text", "cannot write"),
        ("--sizes", "0", "'0' is not a list of sizes"),
    ],
)
def test_bad_arguments_are_told(tars, tmp_path, command, capsys, monkeypatch, flag, value, message):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("a\na b c\n")
    Path("numbers").write_text("1\n" * 6)
    Path("files").write_text("".join(f"{name} 1\n" for name in "abcdef"))
    Path("other.tgz").write_bytes(tar_of({"a": b""}))
    devkit(Path("unlike.tgz"), val_labels(), meta=b"no mat" * 100)
    devkit(Path("short.tgz"), val_labels()[:5])
    devkit(Path("strange.tgz"), [*val_labels()[:5], "1001"])
    err = refused(command, capsys, tmp_path / "out", *arguments(tars, tmp_path / "out", flag, value))
    assert re.search(message, err), err


def test_missing_arguments_are_told(tars, tmp_path, command, capsys):
    train, val = ("--train", tars / "train.tar"), ("--val", tars / "val.tar")
    for given, message in (
        (val, "--train is missing"),
        (train, "--val is missing"),
        ((*train, *val), "give --devkit or --val-labels"),
        ((*train, "--only", "train"), f"3 of 1000 classes, {SYNSET[0]} is missing: --allow-partial"),
    ):
        assert message in refused(command, capsys, tmp_path, *given, "--out", tmp_path)


def test_a_disk_that_is_full_is_told_and_the_job_goes_on(tars, tmp_path, command, capsys, monkeypatch):
    make(command, capsys, *arguments(tars, tmp_path / "whole"))
    frame, left = writer.frame, [7]

    def full(data):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return frame(data)

    monkeypatch.setattr(writer, "frame", full)
    err = refused(command, capsys, tmp_path / "parts", *arguments(tars, tmp_path / "parts"))
    assert "No space left on device; run again to go on" in err
    make(command, capsys, *arguments(tars, tmp_path / "parts"))
    assert files_of(tmp_path / "parts", "[!.]*") == files_of(tmp_path / "whole", "[!.]*")
