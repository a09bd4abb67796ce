"""Archives like those of ImageNet, commands that read them, and the records that these make."""

import io
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from mxnet_resnet.data import recordio
from tests.helpers import REPOSITORY, pictures

SYNSET = [line.split()[0] for line in (REPOSITORY / "predict/synset.txt").read_text().splitlines()]
CLASSES = [SYNSET[number] for number in (3, 100, 999)]
SIZES = [(500, 375), (333, 500), (96, 64), (60, 90), (481, 480), (256, 256)]
QUICK = ("--sizes", "64,32", "--num-workers", "2")
RECORDS = ["train_64_q90.rec", "train_32_q90.rec", "val_256_q90.rec"]


def jpeg(width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    return pictures.jpeg(pictures.photograph(height, width, seed))


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


def val_labels() -> list[str]:
    return [CLASSES[n] for n in (2, 0, 1, 1, 0, 2)]


def write_tars(folder: Path) -> Path:
    """train.tar of three classes, val.tar and devkit.tar.gz; the classes stand in the tar in no order."""
    train = {
        name: {f"{name}_{n}.JPEG": jpeg(*size, seed=10 * c + n) for n, size in enumerate(SIZES)}
        for c, name in enumerate([CLASSES[2], CLASSES[0], CLASSES[1]])
    }
    (folder / "train.tar").write_bytes(tar_of_tars(train))
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": jpeg(*SIZES[n % 6], seed=100 + n) for n in (4, 2, 3, 1, 5, 6)}
    (folder / "val.tar").write_bytes(tar_of(val))
    devkit(folder / "devkit.tar.gz", val_labels())
    return folder


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
