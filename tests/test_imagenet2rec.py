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
import tarfile
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from scipy.io import savemat

from mxnet_resnet import imagetars, recordio, recordwriter
from mxnet_resnet.errors import UserError
from mxnet_resnet.preprocess import decode

SYNSET = [line.split()[0] for line in (REPOSITORY / "predict/synset.txt").read_text().splitlines()]
CLASSES = [SYNSET[number] for number in (3, 100, 999)]
SIZES = [(500, 375), (333, 500), (96, 64), (60, 90), (481, 480), (256, 256)]
QUICK = ("--sizes", "64,32", "--num-workers", "2")
RECORDS = ["train_64_q90.rec", "train_32_q90.rec", "val_256_q90.rec"]


def smooth(width: int, height: int, seed: int) -> np.ndarray:
    small = np.random.RandomState(seed).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def jpeg(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    return cv2.imencode(".jpg", smooth(width, height, seed))[1].tobytes()


def tar_of(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mtime = 1.5  # makes PAX write a header of its own before each file
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def tar_of_tars(classes: dict[str, dict[str, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    return tar_of({f"{name}.tar": tar_of(files, form) for name, files in classes.items()}, form)


def meta_mat(ids: dict[int, str]) -> bytes:
    """Our model of the development kit's meta.mat, made after its readme and what loadmat gives for it elsewhere:
    a struct array `synsets` with these fields, inner nodes of the tree behind the classes."""
    fields = "ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images".split()
    synsets = np.zeros((len(ids) + 1, 1), [(field, object) for field in fields])
    rows = [(number, wordnet_id, "words", "gloss", 0, [], 0, 1300) for number, wordnet_id in ids.items()]
    for row, values in enumerate([*rows, (1001, "n00001740", "entity", "gloss", 2, [1, 2], 19, 0)]):
        synsets[row, 0] = values
    packed = io.BytesIO()
    savemat(packed, {"synsets": synsets})
    return packed.getvalue()


ILSVRC_IDS = dict(enumerate(np.random.RandomState(5).permutation(SYNSET).tolist(), 1))


def devkit(path: Path, labels: list[str], meta: bytes = b"") -> Path:
    numbers = {wordnet_id: number for number, wordnet_id in ILSVRC_IDS.items()}
    truth = "".join(f"{numbers.get(label, label)}\n" for label in labels)
    files = {"meta.mat": meta or meta_mat(ILSVRC_IDS), "ILSVRC2012_validation_ground_truth.txt": truth.encode()}
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("ILSVRC2012_devkit_t12/readme.txt"))
        for name, data in files.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> Path:
    """train.tar of three classes, val.tar and devkit.tar.gz; the classes stand in the tar in no order."""
    folder = tmp_path_factory.mktemp("tars")
    train = {
        name: {f"{name}_{n}.JPEG": jpeg(*size, seed=10 * c + n) for n, size in enumerate(SIZES)}
        for c, name in enumerate([CLASSES[2], CLASSES[0], CLASSES[1]])
    }
    (folder / "train.tar").write_bytes(tar_of_tars(train))
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(*SIZES[n % 6], seed=100 + n) for n in (4, 2, 3, 1, 5, 6)}
    (folder / "val.tar").write_bytes(tar_of(val))
    devkit(folder / "devkit.tar.gz", val_labels())
    return folder


def val_labels() -> list[str]:
    return [CLASSES[n] for n in (2, 0, 1, 1, 0, 2)]


def arguments(tars: Path, out: Path, *more: object) -> list[object]:
    given = ("--train", tars / "train.tar", "--val", tars / "val.tar", "--out", out, "--allow-partial", *QUICK)
    return [*given, *(() if "--val-labels" in more else ("--devkit", tars / "devkit.tar.gz")), *more]


def make(command, capsys, *given: object, tool: str = "imagenet2rec") -> str:
    status, out, err = command(capsys, f"tools/{tool}.py", *given)
    assert status == 0, err
    return out + err


def refused(command, capsys, out: Path, *given: object, tool: str = "imagenet2rec") -> str:
    """The one sentence that a command ends with, without records that look finished."""
    status, _, err = command(capsys, f"tools/{tool}.py", *given)
    assert status == 2 and err.splitlines()[-1].startswith("error: ") and "Traceback" not in err
    assert not list(out.glob("[!.]*.rec")) if out.is_dir() else True
    return err


def written(path: Path) -> dict[str, tuple[int, bytes]]:
    """The (label, image) of each name in the list; checks records, index and list against each other."""
    lines = [line.split("\t") for line in path.with_suffix(".lst").read_text().splitlines()]
    index = [tuple(map(int, line.split())) for line in path.with_suffix(".idx").read_text().splitlines()]
    records = list(recordio.walk(path))
    assert len(lines) == len(index) == len(records)
    for line, (key, offset), record in zip(lines, index, records):
        assert int(line[0]) == key and offset == record.offset and float(line[1]) == record.label
    return {line[2]: (int(record.label), record.image) for line, record in zip(lines, records)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def sources(tar: Path) -> dict[str, bytes]:
    """Name in the list to encoded image of a tar of tars, or of a tar, by Python's own reader."""
    found = {}
    with tarfile.open(tar) as outer:
        for member in outer:
            data = outer.extractfile(member).read()
            if not member.name.endswith(".tar"):
                found[member.name] = data
                continue
            with tarfile.open(fileobj=io.BytesIO(data)) as inner:
                found.update({f"{member.name[:9]}/{file.name}": inner.extractfile(file).read() for file in inner})
    return found


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
    motive = Image.fromarray(smooth(80, 60, 3))
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
    motive = cv2.resize(smooth(80, 60, 3), (85, 64))
    for name, channels in (("png", 3), ("cmyk", 3), ("turned", 3), ("grey", 1)):
        image = decode(found[f"{CLASSES[0]}/{name}.JPEG"][1]).astype(int)
        reference = motive if channels == 3 else cv2.cvtColor(motive, cv2.COLOR_RGB2GRAY)[:, :, None]
        assert image.shape == motive.shape and np.abs(image - reference).mean() < 6, name
    report = (tmp_path / "train_64_q90.unreadable.txt").read_text().splitlines()
    reasons = dict(line.split("\t") for line in report)
    assert reasons.pop(f"{CLASSES[0]}/line") == "is too narrow to be 64 pixels wide"
    assert len(reasons) == 3 and set(reasons.values()) == {"does not decode"}


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


def test_a_job_interrupted_at_random_points_ends_the_same(tars, tmp_path, command, capsys, monkeypatch):
    make(command, capsys, *arguments(tars, tmp_path / "whole"))
    write = imagetars.RecordWriter.write
    rng, interrupts = random.Random(1), 0
    left = [0]

    def interrupted(self, *given):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        write(self, *given)

    monkeypatch.setattr(imagetars.RecordWriter, "write", interrupted)
    status = 130
    while status == 130:
        left[0] = rng.randint(2, 9)
        status, _, _ = command(capsys, "tools/imagenet2rec.py", *arguments(tars, tmp_path / "parts"))
        interrupts += status == 130
    assert status == 0 and interrupts > 4
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


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
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_what_is_finished_is_not_made_again(tars, tmp_path, command, capsys, monkeypatch):
    make(command, capsys, *arguments(tars, tmp_path))
    monkeypatch.setattr(imagetars, "_versions", None)
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


@pytest.mark.parametrize(
    "flag, value, message",
    [
        ("--train", "none.tar", "No such file"),
        ("--train", ".", "Is a directory"),
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
    frame, left = recordwriter.frame, [7]

    def full(data):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return frame(data)

    monkeypatch.setattr(recordwriter, "frame", full)
    err = refused(command, capsys, tmp_path / "parts", *arguments(tars, tmp_path / "parts"))
    assert "No space left on device; run again to go on" in err
    make(command, capsys, *arguments(tars, tmp_path / "parts"))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.fixture(scope="module")
def all_of_imagenet(tmp_path_factory) -> Path:
    """Five classes of 3, 9, 10, 11 and no images."""
    folder = tmp_path_factory.mktemp("whole")
    names = ["n00000005", "n00000001", "n00000004", "n00000002", "n00000003"]
    classes = {
        name: {f"{name}_{n}.JPEG": jpeg(seed=n) for n in range(count)} for name, count in zip(names, (3, 9, 10, 11, 0))
    }
    (folder / "whole.tar").write_bytes(tar_of_tars(classes))
    return folder / "whole.tar"


def held_out(command, capsys, tar: Path, out: Path, *more: object) -> str:
    given = ("--tar", tar, "--out", out, "--min-images", 10, "--val-per-class", 4, *QUICK, *more)
    return make(command, capsys, *given, tool="imagenet11k")


def test_11k_keeps_large_classes_and_holds_images_out(all_of_imagenet, tmp_path, command, capsys):
    told = held_out(command, capsys, all_of_imagenet, tmp_path)
    assert "33 images of 5 classes" in told and "note: these are not the published counts" in told
    assert "kept: 2 classes (published: 11,221), 21 images (published: 12.4 million)" in told
    assert (tmp_path / "synset.txt").read_text() == "n00000002\nn00000004\n"
    train, val = (written(tmp_path / file) for file in RECORDS[::2])
    assert sorted(label for label, _ in val.values()) == [0] * 4 + [1] * 4
    assert sorted(label for label, _ in train.values()) == [0] * 7 + [1] * 6
    kept = {name for name in sources(all_of_imagenet) if name[:9] in ("n00000002", "n00000004")}
    assert not set(train) & set(val) and set(train) | set(val) == kept
    assert all(int(name[8]) == 2 + 2 * label for name, (label, _) in {**train, **val}.items())
    assert {name: label for name, (label, _) in written(tmp_path / RECORDS[1]).items()} == {
        name: label for name, (label, _) in train.items()
    }


def test_11k_is_a_function_of_the_seed(all_of_imagenet, tmp_path, command, capsys):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        held_out(command, capsys, all_of_imagenet, tmp_path / name, "--seed", seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(written(tmp_path / "a" / RECORDS[2])) != set(written(tmp_path / "c" / RECORDS[2]))


def test_11k_tells_what_it_cannot_do(all_of_imagenet, tmp_path, command, capsys):
    for more, message in (
        ((), "no class has 500 images: lower --min-images"),
        (("--min-images", 9, "--val-per-class", 9), "would leave a class of 9 images"),
        (("--tar", tmp_path / "none.tar"), "No such file"),
    ):
        given = ("--tar", all_of_imagenet, "--out", tmp_path, *more)
        assert message in refused(command, capsys, tmp_path, *given, tool="imagenet11k")
