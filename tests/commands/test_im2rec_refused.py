"""What tools/im2rec.py cannot use: images that it skips and reports, and folders, lists and flags that end it."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from mxnet_resnet.data.encoder import Encoder
from tests.helpers.pictures import photograph, save, save_classes


def test_what_cannot_be_read_is_in_the_report(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=5, dog=5)
    good = (root / "cat/000.jpg").read_bytes()
    (root / "cat/empty.jpg").touch()
    (root / "cat/cut.jpg").write_bytes(good[: len(good) // 2])
    (root / "cat/text.png").write_text("no image")
    (root / "dog/folder.jpg").mkdir()
    (root / "dog/tab\there.jpg").write_bytes(good)
    (root / "dog/gone.jpg").symlink_to(root / "nowhere")
    os.mkfifo(root / "dog/pipe.jpg")
    os.symlink(root, root / "dog/up")
    (root / "dog" / os.fsdecode(b"latin\xe9.jpg")).write_bytes(good)
    Image.fromarray(photograph(4, 4)).save(
        root / "dog/moving.gif", save_all=True, append_images=[Image.fromarray(photograph(4, 4, 1))]
    )
    save(root / "dog/narrow.png", size=(1, 300))
    out = im2rec(tmp_path / "x", root, "--resize", 200, "--exts", ".jpg", "png", ".GIF", "--num-workers", 2)
    assert "x.rec: 11 records of 2 classes, 4 skipped" in out and "9 skipped" in out
    assert sorted((tmp_path / "x_bad.txt").read_text().splitlines()) == [
        "cat/cut.jpg\tdoes not decode: it is cut short",
        "cat/empty.jpg\tdoes not decode: it has 0 bytes",
        "cat/text.png\tdoes not decode: it is not an image of a format read: JPEG, PNG, GIF, BMP, WebP, TIFF, PNM",
        "dog/folder.jpg\ta folder",
        "dog/gone.jpg\tno such file",
        "dog/latin\\udce9.jpg\ta list cannot hold its name: not UTF-8",
        "dog/narrow.png\t300x1 pixels are too narrow to be made 200 pixels wide",
        "dog/pipe.jpg\tnot a file",
        "dog/tab\\there.jpg\ta list cannot hold its name: white space",
    ]
    (tmp_path / "y.lst").write_text(
        f"0\t0\tdog/folder.jpg\n1\t1\tdog/pipe.jpg\n2\t1\tcat/000.jpg\n3\t1\tgone\n4\t1\t{'long' * 2000}\n5\t1\ta\0b\n"
    )
    assert "y.rec: 1 records of 1 classes, 5 skipped" in im2rec(tmp_path / "y", root)
    (tmp_path / "y.lst").write_text("2\t1\tcat/000.jpg\n")
    im2rec(tmp_path / "y", root)
    assert not (tmp_path / "y_bad.txt").exists(), "a report of another run"
    assert not list(tmp_path.glob(".*"))


def test_an_image_too_large_for_the_encoding_is_told(tmp_path):
    assert "too many for .jpg" in Encoder().encode(np.zeros((1, 70000, 3), np.uint8))


def test_nothing_readable_is_told(tmp_path, im2rec):
    for name in ("a", "b"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / f"photos/{name}.jpg").write_text("no image")
    assert "x.lst can be read: " in im2rec(tmp_path / "x", tmp_path / "photos", status=2)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "x.lst", "x_synset.txt", "x_bad.txt"}


@pytest.mark.parametrize(
    "name, message", [("nowhere", "there is no folder"), ("empty", "has no images"), ("file", "no folder")]
)
@pytest.mark.parametrize("flags", [[], ["--list"]])
def test_folders_without_images_are_told(tmp_path, im2rec, name, message, flags):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert message in im2rec(tmp_path / "out/x", tmp_path / name, *flags, status=2)
    assert not (tmp_path / "out").exists()


def test_subfolders_without_recursive_are_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=1)
    assert "with --recursive only" in im2rec(tmp_path / "x", root, "--list", status=2)


@pytest.mark.parametrize(
    "line, message",
    [
        (b"1\tcat\tcat/000.jpg", "line 2: the label 'cat' is not a number"),
        (b"1\tnan\tcat/000.jpg", "line 2: the label 'nan' is not"),
        (b"1\t1e39\tcat/000.jpg", "line 2: the label '1e39' is not"),
        (b"1\tcat/000.jpg", "line 2: .* is not an index, a label and a path"),
        (b"1 0 cat/000.jpg", "line 2: .* is not an index, a label and a path"),
        (b"one\t0\tcat/000.jpg", "line 2: the index 'one'"),
        (b"-1\t0\tcat/000.jpg", "line 2: the index '-1'"),
        (b"9" * 5000 + b"\t0\tcat/000.jpg", "line 2: the index '999"),
        (b"0\t0\tcat/000.jpg", "line 2: the index 0 stands on an earlier line"),
        (b"1\t0\t\xe9.jpg", "not UTF-8"),
    ],
)
def test_lines_that_are_none_are_told(tmp_path, im2rec, line, message):
    root = save_classes(tmp_path / "photos", cat=1)
    (tmp_path / "x.lst").write_bytes(b"0\t0\tcat/000.jpg\n" + line + b"\n")
    err = im2rec(tmp_path / "x", root, status=2)
    assert re.search(f"x.lst.*{message}", err), err
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "x.lst"}


def test_an_empty_list_is_told(tmp_path, im2rec):
    (tmp_path / "x.lst").write_text("\n\n")
    assert "x.lst lists no images" in im2rec(tmp_path / "x", tmp_path, status=2)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--quality 101", "--quality"),
        ("--quality 0", "--quality 0 is not from 1 to 100"),
        ("--encoding .png --quality 10", "--quality 10 is not from 0 to 9"),
        ("--encoding .gif", "--encoding"),
        ("--train-ratio 0.9 --test-ratio 0.2", "more than 1"),
        ("--train-ratio 0.9", "too few images: none is left for .*x_val.lst"),
        ("--chunks 5", "too few images"),
        ("--color 0", "--color"),
    ],
)
def test_wrong_flags_are_told(tmp_path, im2rec, flags, message):
    root = save_classes(tmp_path / "photos", cat=2)
    assert re.search(message, im2rec(tmp_path / "x", root, *flags.split(), status=2))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_folders_that_the_names_do_not_know_are_refused(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", a=1, b=1, c=1)
    (tmp_path / "names.txt").write_text("c\na\n")
    assert "names.txt does not name b, where" in im2rec(
        tmp_path / "x", root, "--synset", tmp_path / "names.txt", status=2
    )
    (tmp_path / "names.txt").write_text("a\nb\na\n")
    assert "names the class a twice" in im2rec(tmp_path / "x", root, "--synset", tmp_path / "names.txt", status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "photos"]


def test_the_flags_of_mxnets_im2rec_in_c_are_explained(tmp_path, im2rec):
    err = im2rec(tmp_path / "train.lst", tmp_path, "out.rec", "resize=480", "quality=90", status=2)
    assert "resize=480 is a flag of MXNet's im2rec in C++" in err and "--resize 480" in err
