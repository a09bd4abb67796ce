import dataclasses
import hashlib
import io
import os
import pickle
import random
import struct
import sys
import tarfile

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.errors import run as run_command
from mxnet_resnet.commands import cifar2rec
from mxnet_resnet.data import cifar, cifarfiles, recordio
from mxnet_resnet.data.decoding import decode

TRAIN, VAL = 40, 30  # images a file
CIFAR10 = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


@pytest.fixture
def tool(monkeypatch):
    """The command, for data sets of fewer images a file."""
    for name, dataset in cifar.DATASETS.items():
        small = dataclasses.replace(dataset, train_images=TRAIN, val_images=VAL)
        monkeypatch.setitem(cifar.DATASETS, name, small)
    return cifar2rec


@pytest.fixture
def convert(tool, monkeypatch, capsys):
    """Run it: (status, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cifar2rec.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(tool.main)
        return (ended.value.code, *capsys.readouterr())

    return run


def rows(count, label_bytes=1, classes=10, seed=0) -> np.ndarray:
    generator = np.random.RandomState(seed)
    labels = generator.randint(0, classes, (count, label_bytes))
    return np.hstack([labels, generator.randint(0, 256, (count, 3072))]).astype(np.uint8)


def cifar10() -> dict[str, np.ndarray]:
    return {name: rows(VAL if name == "test_batch" else TRAIN, seed=seed) for seed, name in enumerate(CIFAR10)}


def cifar100() -> dict[str, np.ndarray]:
    return {name: rows(count, 2, 20, seed) for seed, (name, count) in enumerate([("train", TRAIN), ("test", VAL)])}


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 did, whose pickles the archives hold."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, data):
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = save_bytes


def python_version(batch: np.ndarray) -> bytes:
    content = {b"data": np.ascontiguousarray(batch[:, -3072:])}
    keys = [b"labels"] if batch.shape[1] == 3073 else [b"coarse_labels", b"fine_labels"]
    content.update({key: batch[:, place].tolist() for place, key in enumerate(keys)})
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def contents(batches, version) -> dict[str, bytes]:
    if version == "binary":
        return {f"{name}.bin": batch.tobytes() for name, batch in batches.items()}
    return {name: python_version(batch) for name, batch in batches.items()}


def write_folder(folder, files: dict[str, bytes]):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(path, files: dict[str, bytes]):
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def compare(prefix, batches: list[np.ndarray], shuffled: bool):
    """The records hold the images of the batches, pixel by pixel, with their labels."""
    expected = np.concatenate(batches)
    reader = mx.recordio.MXIndexedRecordIO(f"{prefix}.idx", f"{prefix}.rec", "r")
    assert sorted(reader.keys) == list(range(len(expected)))
    assert (reader.keys != sorted(reader.keys)) == shuffled
    for key in reader.keys:
        header, image = mx.recordio.unpack(reader.read_idx(key))
        assert header.label == expected[key, -3073]
        np.testing.assert_array_equal(decode(image).transpose(2, 0, 1).ravel(), expected[key, -3072:])


def read_all(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dataset, batches", [("cifar10", cifar10()), ("cifar100", cifar100())])
@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("source", ["folder", "a.tar.gz", "a.tar.xz", "folder of a.tar.xz"])
def test_every_form_of_the_data_becomes_the_same_records(tmp_path, convert, dataset, batches, version, source):
    files = contents(batches, version)
    if source == "folder":
        path = write_folder(tmp_path / "in" / "deeper", files).parent
    else:
        path = write_tar(tmp_path / source.split()[-1], files)
        path = path.parent if "folder" in source else path
    status, out, err = convert("--dataset", dataset, "--source", path, "--out", tmp_path / "out")
    assert status == 0, err
    *train, val = batches.values()
    assert f"{dataset}_train.rec: {TRAIN * len(train)} records" in out
    assert f"{dataset}_val.rec: {VAL} records" in out
    compare(tmp_path / "out" / f"{dataset}_train", train, shuffled=True)
    compare(tmp_path / "out" / f"{dataset}_val", [val], shuffled=False)
    assert (tmp_path / "out/synset.txt").read_text().split() == list(cifar.DATASETS[dataset].classes)
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_folder_and_a_tar_file_in_it_are_put_together(tmp_path, convert):
    files = contents(cifar10(), "binary")
    write_folder(tmp_path / "in/a", {"test_batch.bin": files.pop("test_batch.bin")})
    write_tar(tmp_path / "in/train.tar.xz", files)
    assert convert("--dataset", "cifar10", "--source", tmp_path / "in", "--out", tmp_path / "out")[0] == 0


def test_real_images_are_exact(tmp_path, convert, shared):
    """The test batch, also cut into five training batches."""
    real = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(10000, 3073)
    batches = {
        name: real[TRAIN * place :][: VAL if name == "test_batch" else TRAIN] for place, name in enumerate(CIFAR10)
    }
    source = write_folder(tmp_path / "in", contents(batches, "binary"))
    assert convert("--dataset", "cifar10", "--source", source, "--out", tmp_path / "out")[0] == 0
    *train, val = batches.values()
    compare(tmp_path / "out/cifar10_train", train, shuffled=True)
    compare(tmp_path / "out/cifar10_val", [val], shuffled=False)


def test_mxnets_iterator_reads_the_records(tmp_path, tool, shared):
    file = shared / "cifar10/cifar-10-batches-bin/test_batch.bin"
    real = np.fromfile(file, np.uint8).reshape(10000, 3073)
    images = cifarfiles.read_binary(file.read_bytes(), 10000, cifar.DATASETS["cifar10"], str(file))
    tool.write_split(tmp_path / "cifar10_val", images, np.arange(10000), 2)
    assert recordio.scan(tmp_path / "cifar10_val.rec") == recordio.Summary(10000, 0.0, 9.0, None)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(tmp_path / "cifar10_val.rec"), data_shape=(3, 32, 32), batch_size=1000, verbose=False
    )
    batches = [(batch.data[0].asnumpy(), batch.label[0].asnumpy()) for batch in iterator]
    np.testing.assert_array_equal(np.concatenate([data for data, _ in batches]).reshape(10000, 3072), real[:, 1:])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), real[:, 0])


def test_the_names_of_the_classes_are_the_official_ones(shared):
    names = (shared / "cifar10/cifar-10-batches-bin/batches.meta.txt").read_text().split()
    assert list(cifar.DATASETS["cifar10"].classes) == names
    names = cifar.DATASETS["cifar100"].classes
    assert len(names) == 100 and list(names) == sorted(set(names))


def test_the_order_is_a_function_of_the_seed(tmp_path, convert):
    source = write_folder(tmp_path / "in", contents(cifar100(), "binary"))
    orders = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert convert("--dataset", "cifar100", "--source", source, "--out", tmp_path / out, "--seed", seed)[0] == 0
        orders.append(read_all(tmp_path / out))
    assert orders[0] == orders[1]
    assert orders[0]["cifar100_train.rec"] != orders[2]["cifar100_train.rec"]
    assert orders[0]["cifar100_val.rec"] == orders[2]["cifar100_val.rec"]


def test_an_interrupted_conversion_goes_on(tmp_path, convert, monkeypatch):
    source = write_folder(tmp_path / "in", contents(cifar10(), "binary"))
    arguments = ["--dataset", "cifar10", "--source", source, "--num-workers", 2, "--out"]
    convert(*arguments, tmp_path / "undisturbed")
    encode, generator = cifar.encode_png, random.Random(0)
    for number in range(8):
        left = [generator.randrange(5 * TRAIN + VAL)]

        def stop(pixels, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return encode(pixels)

        monkeypatch.setattr(cifar, "encode_png", stop)
        status, _, err = convert(*arguments, tmp_path / f"{number}")
        assert (status, err) == (130, "interrupted\n")
        for part in (tmp_path / f"{number}").glob(".*.rec.part"):  # as where the machine stopped
            os.truncate(part, generator.randrange(part.stat().st_size + 1))
        monkeypatch.setattr(cifar, "encode_png", encode)
        assert convert(*arguments, tmp_path / f"{number}")[0] == 0
        assert read_all(tmp_path / f"{number}") == read_all(tmp_path / "undisturbed")


def fail(convert, tmp_path, source, dataset="cifar10") -> str:
    status, _, err = convert("--dataset", dataset, "--source", source, "--out", tmp_path / "out")
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()
    return err


@pytest.mark.parametrize("version", ["binary", "python"])
def test_damaged_batches_are_told(tmp_path, convert, version):
    good = contents(cifar10(), version)
    name = next(name for name in good if name.startswith("data_batch_3"))
    generator = random.Random(0)
    for number, size in enumerate([0, 1, len(good[name]) - 1, *generator.sample(range(len(good[name])), 5)]):
        source = write_folder(tmp_path / f"{number}", {**good, name: good[name][:size]})
        assert name in fail(convert, tmp_path, source)


def test_what_is_missing_is_told(tmp_path, convert):
    files = contents(cifar10(), "binary")
    del files["data_batch_2.bin"], files["test_batch.bin"]
    assert "no data_batch_2.bin, test_batch.bin" in fail(convert, tmp_path, write_folder(tmp_path / "in", files))
    assert "no train.bin, test.bin" in fail(convert, tmp_path, tmp_path / "in", "cifar100")
    assert "there is no file or folder" in fail(convert, tmp_path, tmp_path / "nowhere")


def test_what_is_no_archive_is_told(tmp_path, convert):
    path = tmp_path / "a.zip"
    for data in (b"", b"PK\3\4" + bytes(100), b"\x1f\x8b" + bytes(50), random.Random(0).randbytes(1000)):
        path.write_bytes(data)
        assert "a.zip is not a whole tar file" in fail(convert, tmp_path, path)


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_an_archive_cut_anywhere_is_told(tmp_path, convert, ending):
    whole = write_tar(tmp_path / f"a.tar.{ending}", contents(cifar10(), "binary")).read_bytes()
    path = tmp_path / f"cut.tar.{ending}"
    for size in range(0, len(whole) - 5000, len(whole) // 12):
        path.write_bytes(whole[:size])
        assert str(path) in fail(convert, tmp_path, path)


def test_a_label_that_is_no_class_is_told(tmp_path, convert):
    batches = cifar10()
    batches["data_batch_4"][17, 0] = 10
    err = fail(convert, tmp_path, write_folder(tmp_path / "in", contents(batches, "binary")))
    assert "data_batch_4.bin, image 17: there is no class 10" in err


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_hostile_pickle_does_not_run(tmp_path, convert):
    files = contents(cifar10(), "python")
    mark = tmp_path / "mark"
    hostile = [
        Hostile(exec, f"open({str(mark)!r}, 'w')"),
        Hostile(open, str(mark), "w"),
        Hostile(np.save, str(mark), 1),
        Hostile(getattr, "", "format"),
    ]
    payloads = [pickle.dumps({b"labels": [0], b"data": bad}, protocol) for bad in hostile for protocol in range(6)]
    payloads.append(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode())
    payloads.append(pickle.dumps({b"labels": [0] * TRAIN, b"data": np.full((TRAIN, 3072), None)}, 2))
    for number, payload in enumerate(payloads):
        source = write_folder(tmp_path / f"{number}", {**files, "data_batch_1": payload})
        assert "data_batch_1 is not a pickled CIFAR batch" in fail(convert, tmp_path, source)
    assert not list(tmp_path.glob("mark*"))


def test_random_pickles_are_told(tmp_path):
    """Thousands of damaged batches: each is read, or told in one sentence."""
    good = python_version(rows(2))
    generator = random.Random(0)
    dataset = cifar.DATASETS["cifar10"]
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(generator.randrange(1, 4)):
            data[generator.choice([generator.randrange(200), generator.randrange(len(data))])] = generator.randrange(
                256
            )
        try:
            assert cifarfiles.read_pickle(bytes(data), 2, dataset, "a").pixels.shape == (2, 3072)
        except UserError as error:
            assert str(error).startswith("a ")


def test_a_download_is_verified(tmp_path, convert, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    archive = write_tar(site / "cifar-10-binary.tar.gz", contents(cifar10(), "binary"))
    monkeypatch.setattr(cifar, "SITE", f"file://{site}/")
    arguments = ["--dataset", "cifar10", "--download", "--out", tmp_path / "out"]

    status, _, err = convert(*arguments)
    assert status == 2 and "c32a1d4ab5d03f1284b67883e8d87530: it was not kept" in err and err.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())

    monkeypatch.setitem(cifar.MD5, archive.name, hashlib.md5(archive.read_bytes()).hexdigest())
    assert convert(*arguments)[0] == 0
    compare(tmp_path / "out/cifar10_val", [cifar10()["test_batch"]], shuffled=False)

    archive.unlink()
    assert convert(*arguments)[0] == 0, "the archive from before is used"
    (tmp_path / "out" / archive.name).write_bytes(b"damaged")
    status, _, err = convert(*arguments)
    assert status == 2 and err.startswith(f"error: cannot download file://{site}/") and err.count("\n") == 1


def test_official_addresses():
    assert cifar.SITE == "https://www.cs.toronto.edu/~kriz/"
    assert {dataset.archive for dataset in cifar.DATASETS.values()} <= cifar.MD5.keys()


@pytest.mark.parametrize("arguments", ["", "--dataset cifar10", "--dataset svhn --download", "--source a"])
def test_wrong_arguments_are_told(convert, arguments):
    status, _, err = convert(*arguments.split())
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.slow
def test_all_of_cifar10(tmp_path, command, capsys, shared):
    status, out, err = command(
        capsys, "tools/cifar2rec.py", "--dataset", "cifar10", "--source", shared / "cifar10", "--out", tmp_path
    )
    assert status == 0, err
    assert "cifar10_train.rec: 50,000 records of 10 classes" in out
    with tarfile.open(shared / "cifar10/train_batches.tar.xz") as archive:
        data = b"".join(archive.extractfile(f"cifar-10-batches-bin/{name}.bin").read() for name in CIFAR10[:5])
    compare(tmp_path / "cifar10_train", [np.frombuffer(data, np.uint8).reshape(50000, 3073)], shuffled=True)
    test = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(10000, 3073)
    compare(tmp_path / "cifar10_val", [test], shuffled=False)
