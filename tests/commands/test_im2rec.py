"""tools/im2rec.py: its records and lists beside those of MXNet's tool, and images of all kinds."""

import gc
import os
import random
import re
import runpy
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mxnet_resnet.base import progress
from mxnet_resnet.data import folders, lists, recordio
from mxnet_resnet.data.decoding import decode_bgr
from mxnet_resnet.data.encoder import Encoder
from mxnet_resnet.data.lists import ListLine, read_list
from tests.helpers.pictures import photograph, save, save_classes
from tests.helpers.recordfiles import files_of

MXNETS_TOOL = Path(mx.__file__).parent / "tools" / "im2rec.py"


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of images of many kinds, in nested classes."""
    root = tmp_path / "photos"
    for number, size in enumerate([(40, 56), (56, 40), (40, 40), (33, 91), (120, 47)]):
        save(root / "b" / f"{number}.JPG", number, size)
        save(root / "b" / "inside" / f"{number} with a space.png", number, size)
    save(root / "a" / "grey.jpeg", mode="L")
    save(root / "a" / "cmyk.jpg", mode="CMYK")
    save(root / "a" / "transparent.png", mode="RGBA")
    save(root / "a" / "palette.png", mode="P")
    save(root / "c" / "turned.jpg", exif=orientation(6))
    cv2.imwrite(str(root / "c" / "deep.png"), photograph(40, 56).astype(np.uint16) * 257)
    (root / "c" / "notes.txt").write_text("no image")
    return root


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def mxnets(*arguments: object) -> None:
    before = sys.argv
    sys.argv = ["im2rec.py", *map(str, arguments)]
    try:
        runpy.run_path(str(MXNETS_TOOL), run_name="__main__")
    finally:
        sys.argv = before
        gc.collect()  # it leaves its files to be closed so


def labels_of(path: Path) -> list[float]:
    return [record.label for record in recordio.walk(path)]


@pytest.mark.parametrize(
    "flags, mxnets_flags",
    [
        ("", None),
        ("--pass-through", None),
        ("--resize 32", None),
        ("--resize 90 --quality 80", None),
        ("--center-crop --resize 31", None),
        ("--center-crop --encoding .png --quality 3", None),
        ("--encoding .png", None),
        ("--num-workers 3 --color 1", "--num-thread 1 --color 1"),
    ],
)
def test_records_are_byte_for_byte_those_of_mxnets_tool(tmp_path, photos, im2rec, flags, mxnets_flags):
    for name in ("ours", "mxnets"):
        (tmp_path / name).mkdir()
        mxnets(tmp_path / name / "x", photos, "--list", "--recursive")
    mxnets(tmp_path / "mxnets/x", photos, *(mxnets_flags or flags).split())
    out = im2rec(tmp_path / "ours/x", photos, *flags.split())
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "mxnets")
    assert "16 records of 4 classes, 0 skipped" in out


def test_mxnets_iterator_reads_ours_and_ours_reads_its(tmp_path, photos, im2rec):
    im2rec(tmp_path / "x", photos, "--resize", 32, "--encoding", ".png")
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(tmp_path / "x.rec"), data_shape=(3, 32, 32), batch_size=16, verbose=False
    )
    batch = next(iterator)
    for data, label, record in zip(
        batch.data[0].asnumpy(), batch.label[0].asnumpy(), recordio.walk(tmp_path / "x.rec")
    ):
        image = decode_bgr(record.image)[:, :, ::-1]
        top, left = ((side - 32) // 2 for side in image.shape[:2])
        np.testing.assert_array_equal(data.transpose(1, 2, 0), image[top : top + 32, left : left + 32])
        assert label == record.label
    (tmp_path / "mxnets").mkdir()
    mxnets(tmp_path / "mxnets/x", photos, "--list", "--recursive")
    mxnets(tmp_path / "mxnets/x", photos)
    entries = read_list(tmp_path / "mxnets/x.lst")
    assert labels_of(tmp_path / "mxnets/x.rec") == [entry.label for entry in entries]


@pytest.mark.parametrize("recursive", [True, False])
def test_the_list_is_mxnets_but_for_the_order(tmp_path, photos, im2rec, recursive):
    save(photos / "top.jpg")
    flags = ["--list", *["--recursive"] * recursive]
    for name, tool in (("ours", im2rec), ("mxnets", mxnets)):
        (tmp_path / name).mkdir()
        tool(tmp_path / name / "x", photos, *flags)
    ours, theirs = ((tmp_path / name / "x.lst").read_text().splitlines() for name in ("ours", "mxnets"))
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == (17 if recursive else 1)
    im2rec(tmp_path / "sorted", photos, "--no-shuffle", *flags)
    assert not recursive or [entry.key for entry in read_list(tmp_path / "ours/x.lst")] != list(range(len(ours)))
    assert [entry.key for entry in read_list(tmp_path / "sorted.lst")] == list(range(len(ours)))
    names = (tmp_path / "ours/x_synset.txt").read_text().split("\n")
    assert names == (["photos", "a", "b", "b/inside", "c", ""] if recursive else ["photos", ""])


def test_a_folder_becomes_records_in_one_command(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=20, dog=30, emu=10)
    out = im2rec(tmp_path / "out/pets", root, "--train-ratio", 0.9)
    assert "pets_train.rec: 54 records of 3 classes, 0 skipped" in out
    assert "pets_val.rec: 6 records of 3 classes, 0 skipped" in out
    assert Counter(labels_of(tmp_path / "out/pets_train.rec")) == {0: 18, 1: 27, 2: 9}
    assert Counter(labels_of(tmp_path / "out/pets_val.rec")) == {0: 2, 1: 3, 2: 1}
    assert labels_of(tmp_path / "out/pets_train.rec") != sorted(labels_of(tmp_path / "out/pets_train.rec"))
    names = {f"pets_{part}.{ending}" for part in ("train", "val") for ending in ("rec", "idx", "lst")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"pets_synset.txt"}
    assert (tmp_path / "out/pets_synset.txt").read_text() == "cat\ndog\nemu\n"


def test_lists_are_a_function_of_the_seed(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=20, dog=30)
    lists = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        im2rec(tmp_path / name / "x", root, "--list", "--recursive", "--train-ratio", 0.5, "--seed", seed)
        lists.append(files_of(tmp_path / name))
    assert lists[0] == lists[1] and lists[0] != lists[2]


def test_chunks_and_test_lists_are_named_as_mxnets(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=20, dog=40)
    flags = ["--list", "--recursive", "--chunks", 2, "--train-ratio", 0.5, "--test-ratio", 0.2]
    for name, tool in (("ours", im2rec), ("mxnets", mxnets)):
        (tmp_path / name).mkdir()
        tool(tmp_path / name / "x", root, *flags)
    ours, theirs = (
        {path.name: read_list(path) for path in (tmp_path / name).glob("*.lst")} for name in ("ours", "mxnets")
    )
    assert {name: len(entries) for name, entries in ours.items()} == {name: len(it) for name, it in theirs.items()}
    assert sorted(entry for entries in ours.values() for entry in entries) == sorted(
        entry for entries in theirs.values() for entry in entries
    )
    assert Counter(entry.label for entry in ours["x_1_train.lst"]) == {0: 5, 1: 10}


def test_a_split_is_exact_in_each_class_and_as_a_whole():
    generator = random.Random(0)
    for _ in range(300):
        counts = [generator.randrange(1, 40) for _ in range(generator.randrange(1, 20))]
        entries = [ListLine(0, label, "") for label, count in enumerate(counts) for _ in range(count)]
        entries = [entry._replace(key=key) for key, entry in enumerate(entries)]
        generator.shuffle(entries)
        ratio = Fraction(generator.randrange(1, 100), 100)
        taken, rest = lists.take(entries, ratio)
        assert sorted(taken + rest) == sorted(entries)
        assert abs(len(taken) - len(entries) * ratio) <= Fraction(1, 2)
        for label, count in enumerate(counts):
            assert abs(sum(entry.label == label for entry in taken) - count * ratio) < 1
        train = lists.split(entries, ratio, Fraction(0))["_train"]
        assert {entry.label for entry in train} == set(range(len(counts)))


@pytest.mark.parametrize("value", range(1, 9))
def test_images_are_turned_upright(tmp_path, value):
    path = save(tmp_path / "a.jpg", exif=orientation(value))
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    mirrored = stored[:, ::-1] if value in (2, 4, 5, 7) else stored
    upright = np.rot90(mirrored, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[value])
    np.testing.assert_array_equal(decode_bgr(Encoder(encoding=".png", quality=1).read(path)), upright)


@pytest.mark.parametrize(
    "ending, mode", [(".jpg", "L"), (".jpg", "CMYK"), (".png", "L"), (".png", "RGBA"), (".png", "P"), (".png", "1"),
                     (".png", "LA"), (".png", "I;16"), (".tiff", "RGB"), (".webp", "RGBA"), (".bmp", "RGB")],
)  # fmt: skip
def test_images_of_all_kinds_become_rgb(tmp_path, ending, mode):
    path = tmp_path / f"image{ending}"
    if mode == "I;16":
        cv2.imwrite(str(path), photograph(40, 56)[:, :, ::-1].astype(np.uint16) * 257)
    else:
        save(path, mode=mode, **{"lossless": True} if ending == ".webp" else {})
    image = decode_bgr(Encoder(encoding=".png", quality=1).read(path))[:, :, ::-1]
    assert image.shape == (40, 56, 3) and image.dtype == np.uint8
    reference = photograph(40, 56) if mode == "I;16" else np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_allclose(image.astype(int), reference, atol=12 if mode == "CMYK" else 2)


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = save_classes(tmp_path / "photos", a=1, b=1)
    os.symlink(root / "b", root / "a/to_b")
    os.symlink(root / "a", root / "b/to_a")
    os.symlink(tmp_path, root / "b/out")
    assert folders.list_folder(root, {".jpg"}, True).classes == ["a", "a/to_b", "b", "b/to_a"]


def test_lists_of_others_are_read(tmp_path, im2rec):
    """Windows line ends, a byte order mark, blanks, several labels (the first counts, as in MXNet's tool)."""
    root = save_classes(tmp_path / "photos", cat=3)
    (tmp_path / "x.lst").write_bytes(b"\xef\xbb\xbf7\t2\tcat/000.jpg\r\n\r\n5 \t 1.5\t9\t8\t cat/001.jpg \r\n")
    before = (tmp_path / "x.lst").read_bytes()
    im2rec(tmp_path / "x", root)
    assert labels_of(tmp_path / "x.rec") == [2, 1.5]
    assert sorted(mx.recordio.MXIndexedRecordIO(str(tmp_path / "x.idx"), str(tmp_path / "x.rec"), "r").keys) == [5, 7]
    assert (tmp_path / "x.lst").read_bytes() == before


def test_the_lists_of_a_folder_become_records(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", cat=4)
    im2rec(tmp_path / "lists/x", root, "--list", "--recursive", "--chunks", 2)
    im2rec(tmp_path / "lists", root)
    assert len(labels_of(tmp_path / "lists/x_0.rec")) == len(labels_of(tmp_path / "lists/x_1.rec")) == 2
    (tmp_path / "none").mkdir()
    assert "folder without lists" in im2rec(tmp_path / "none", root, status=2)


def test_progress_is_told_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_A_LINE", 0)
    assert list(progress.progress(range(2), "x", 1002, 1000)) == [0, 1]
    out, err = capsys.readouterr()
    assert re.fullmatch(r"x: 1,001 of 1,002 images, \d+ a second\nx: 1,002 of 1,002 images, \d+ a second\n", out)
    assert err == ""


def test_real_photographs(tmp_path, im2rec, shared):
    """200 photographs, 256 pixels and quality 90: what MXNet's tool makes of the same list."""
    root = shared / "imagenet_samples/images"
    for name in ("ours", "mxnets"):
        im2rec(tmp_path / name / "x", root, "--list", "--exts", ".JPEG", "--seed", 3)
    mxnets(tmp_path / "mxnets/x", root, "--resize", 256, "--quality", 90)
    out = im2rec(tmp_path / "ours/x", root, "--resize", 256, "--quality", 90)
    assert "200 records of 1 classes, 0 skipped" in out
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "mxnets")


def test_validation_gets_the_order_of_training(tmp_path, im2rec):
    train = save_classes(tmp_path / "train", a=1, b=1, c=1)
    val = save_classes(tmp_path / "val", a=1, c=2)
    im2rec(tmp_path / "t", train)
    for _ in range(2):  # the same command again goes on
        out = im2rec(tmp_path / "v", val, "--synset", tmp_path / "t_synset.txt")
        assert "v.rec: 3 records of 2 classes" in out
    assert sorted(labels_of(tmp_path / "v.rec")) == [0, 2, 2]
    assert (tmp_path / "v_synset.txt").read_text() == (tmp_path / "t_synset.txt").read_text() == "a\nb\nc\n"
    (tmp_path / "other.txt").write_text("c\na\n")
    assert "other classes than those" in im2rec(tmp_path / "v", val, "--synset", tmp_path / "other.txt", status=2)


def test_names_that_begin_with_a_wordnet_id_are_those_of_folders(tmp_path, im2rec):
    root = save_classes(tmp_path / "val", n00000007=1, n00000003=1)
    (tmp_path / "synset.txt").write_bytes(b"\xef\xbb\xbfn00000007 tench, Tinca tinca\r\nn00000003 shark\r\n")
    im2rec(tmp_path / "v", root, "--synset", tmp_path / "synset.txt", "--no-shuffle")
    assert [line.label for line in read_list(tmp_path / "v.lst")] == [1, 0]
    assert (tmp_path / "v_synset.txt").read_text() == "n00000007 tench, Tinca tinca\nn00000003 shark\n"


def test_what_of_a_folder_is_not_listed_is_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", a=2)
    for ending in ("bmp", "webp"):
        save(root / f"b/0.{ending}")
    save(root / "a/2.bmp")
    (root / "c").mkdir()
    (root / "d/deeper").mkdir(parents=True)
    save(root / "d/deeper/0.png")
    (root / "d/notes.txt").touch()
    (root / "a/.hidden").touch()
    notes = [line for line in im2rec(tmp_path / "x", root).splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: b is no class: it has 2 files (.bmp 1, .webp 1), and none that --exts names",
        "note: c is no class: it has no image",
        "note: left out, as --exts (.jpeg .jpg .png) does not name them: 4 files (.bmp 2, .txt 1, .webp 1)",
    ]
    assert (tmp_path / "x_synset.txt").read_text() == "a\nd/deeper\n"
    assert "y.lst: 6 images of 3 classes" in im2rec(tmp_path / "y", root, "--exts", "all")
    assert "note: 4 subfolders are not looked into" in im2rec(tmp_path / "z", save(root / "0.jpg").parent, "--list")


def test_images_without_folders_of_classes_are_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", flat=2)
    out = im2rec(tmp_path / "x", root / "flat")
    assert f"note: all images have the label 0: {root}/flat has one folder with images, flat" in out
    save(root / "top.jpg")
    out = im2rec(tmp_path / "y", root)
    assert f"note: the images that lie in {root} itself are a class, photos, with the label 0" in out


def test_a_subfolder_called_as_its_folder_is_a_class_of_its_own(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", photos=2, zebra=1)
    save(root / "top.jpg")
    im2rec(tmp_path / "x", root, "--no-shuffle")
    assert (tmp_path / "x_synset.txt").read_text() == "photos\nphotos\nzebra\n"
    assert [line.label for line in read_list(tmp_path / "x.lst")] == [0, 1, 1, 2]


def test_further_labels_of_a_list_are_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", a=2)
    (tmp_path / "x.lst").write_text("0\t1\t0.5\t3\ta/000.jpg\n1\t0\ta/001.jpg\n")
    out = im2rec(tmp_path / "x", root)
    assert f"note: {tmp_path}/x.lst: 1 line has more than one label, and the first one counts" in out


def test_a_class_of_which_nothing_can_be_read_is_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", a=2, b=1)
    (root / "b/000.jpg").write_bytes(b"no image")
    assert f"note: {tmp_path}/x.lst: no image with the label 1 can be read" in im2rec(tmp_path / "x", root)


def test_hidden_folders_that_are_classes_are_told(tmp_path, im2rec):
    root = save_classes(tmp_path / "photos", a=1, **{".cache": 1})
    assert "note: hidden folders with images are classes too: .cache" in im2rec(tmp_path / "x", root)
