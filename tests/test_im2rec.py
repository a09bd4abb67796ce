import errno
import gc
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

from mxnet_resnet import imagelists, progress, recordio
from mxnet_resnet.imagelists import Encoder, Entry, read_list
from mxnet_resnet.preprocess import decode_bgr

MXNETS_TOOL = Path(mx.__file__).parent / "tools" / "im2rec.py"


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image, RGB."""
    small = np.random.RandomState(seed).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def save(path: Path, seed: int = 0, size=(40, 56), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(*size, seed)).convert(mode).save(path, **options)
    return path


def save_classes(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{number:03d}.jpg", seed=number, size=(24 + number % 5, 30))
    return root


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


@pytest.fixture
def im2rec(command, capsys):
    def run(*arguments, status=0) -> str:
        ended, out, err = command(capsys, "tools/im2rec.py", *arguments)
        assert ended == status, err
        if status == 2:
            assert err.startswith("error: ") and err.count("\n") == 1
        return err if status else out

    return run


def mxnets(*arguments: object) -> None:
    before = sys.argv
    sys.argv = ["im2rec.py", *map(str, arguments)]
    try:
        runpy.run_path(str(MXNETS_TOOL), run_name="__main__")
    finally:
        sys.argv = before
        gc.collect()  # it leaves its files to be closed so


def images_of(path: Path) -> list[np.ndarray]:
    return [decode_bgr(record.image) for record in recordio.walk(path)]


def labels_of(path: Path) -> list[float]:
    return [record.label for record in recordio.walk(path)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
        entries = [Entry(0, label, "") for label, count in enumerate(counts) for _ in range(count)]
        entries = [entry._replace(key=key) for key, entry in enumerate(entries)]
        generator.shuffle(entries)
        ratio = Fraction(generator.randrange(1, 100), 100)
        taken, rest = imagelists.take(entries, ratio)
        assert sorted(taken + rest) == sorted(entries)
        assert abs(len(taken) - len(entries) * ratio) <= Fraction(1, 2)
        for label, count in enumerate(counts):
            assert abs(sum(entry.label == label for entry in taken) - count * ratio) < 1
        train = imagelists.split(entries, ratio, Fraction(0))["_train"]
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
    assert "x.rec: 10 records of 2 classes, 5 skipped" in out and "10 skipped" in out
    assert sorted((tmp_path / "x_bad.txt").read_text().splitlines()) == [
        "cat/cut.jpg\tnot an image that OpenCV can decode",
        "cat/empty.jpg\t0 bytes",
        "cat/text.png\tnot an image that OpenCV can decode",
        "dog/folder.jpg\ta folder",
        "dog/gone.jpg\tno such file",
        "dog/latin\\udce9.jpg\ta list cannot hold its name: not UTF-8",
        "dog/moving.gif\tnot an image that OpenCV can decode",
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


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = save_classes(tmp_path / "photos", a=1, b=1)
    os.symlink(root / "b", root / "a/to_b")
    os.symlink(root / "a", root / "b/to_a")
    os.symlink(tmp_path, root / "b/out")
    assert imagelists.list_folder(root, {".jpg"}, True).classes == ["a", "a/to_b", "b", "b/to_a"]


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


@pytest.fixture
def damaged(tmp_path) -> Path:
    """Two classes, in which some images do not decode, and one is a folder."""
    root = save_classes(tmp_path / "photos", cat=40, dog=30)
    for name in ("cat/003", "cat/017", "dog/000", "dog/029"):
        (root / f"{name}.jpg").write_bytes(b"no image")
    (root / "dog/folder.jpg").mkdir()
    return root


def test_an_interrupted_job_goes_on(tmp_path, damaged, im2rec, monkeypatch):
    """Stopped at any image, with the parts cut anywhere as where the machine stopped: the result is the same."""
    flags = [damaged, "--train-ratio", 0.7, "--num-workers", 2]
    im2rec(tmp_path / "undisturbed/x", *flags)
    assert len((tmp_path / "undisturbed/x_bad.txt").read_text().splitlines()) == 5
    read, generator = Encoder.read, random.Random(0)
    for number in range(12):
        folder, done = tmp_path / f"{number}", []
        for _ in range(2):
            left = [generator.randrange(35)]

            def stop(encoder, path, left=left, done=done):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                done.append(path)
                return read(encoder, path)

            monkeypatch.setattr(Encoder, "read", stop)
            assert im2rec(folder / "x", *flags, status=130) == "interrupted\n"
            for part in folder.glob(".*.rec.part") if number % 2 else ():
                os.truncate(part, generator.randrange(part.stat().st_size + 1))
        monkeypatch.setattr(Encoder, "read", read)
        im2rec(folder / "x", *flags)
        assert files_of(folder) == files_of(tmp_path / "undisturbed")


def test_a_finished_list_is_not_read_again(tmp_path, damaged, im2rec, monkeypatch):
    flags = [damaged, "--train-ratio", 0.7, "--num-workers", 1]
    read, calls = Encoder.read, []

    def stop(encoder, path):
        calls.append(path)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return read(encoder, path)

    monkeypatch.setattr(Encoder, "read", stop)
    im2rec(tmp_path / "out/x", *flags, status=130)
    assert (tmp_path / "out/x_train.rec").exists()
    out = im2rec(tmp_path / "out/x", *flags)
    assert len(calls) < 85 and "5 skipped" in out


def test_other_settings_start_again(tmp_path, damaged, im2rec, monkeypatch):
    im2rec(tmp_path / "undisturbed/x", damaged, "--quality", 50)
    read, left = Encoder.read, [30]

    def stop(encoder, path):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(encoder, path)

    monkeypatch.setattr(Encoder, "read", stop)
    im2rec(tmp_path / "out/x", damaged, status=130)
    monkeypatch.setattr(Encoder, "read", read)
    im2rec(tmp_path / "out/x", damaged, "--quality", 50)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_goes_on(tmp_path, im2rec, number):
    root = tmp_path / "photos"
    for seed in range(60):
        save(root / f"{seed % 3}" / f"{seed}.jpg", seed, (700, 900))
    im2rec(tmp_path / "undisturbed/x", root)
    arguments = [sys.executable, "tools/im2rec.py", str(tmp_path / "out/x"), str(root), "--num-workers", "1"]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part, deadline = tmp_path / "out/.x.rec.part", time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, err) == (130, "interrupted\n")
    assert not (tmp_path / "out/x.rec").exists()
    im2rec(tmp_path / "out/x", root)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_a_full_disk_is_told_and_the_job_goes_on(tmp_path, im2rec, request):
    root = save_classes(tmp_path / "photos", cat=300)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True)
    if mounting.returncode:
        pytest.skip("no tmpfs can be mounted here")
    request.addfinalizer(lambda: subprocess.run(["umount", str(disk)], check=True))
    arguments = [sys.executable, "tools/im2rec.py", str(disk / "x"), str(root)]
    full = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
    assert full.returncode == 2
    assert full.stderr == f"error: cannot write {disk / 'x.rec'}: {os.strerror(errno.ENOSPC)}; run again to go on\n"
    assert not (disk / "x.rec").exists()
    subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
    im2rec(disk / "x", root)
    im2rec(tmp_path / "undisturbed/x", root)
    assert files_of(disk) == files_of(tmp_path / "undisturbed")


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
