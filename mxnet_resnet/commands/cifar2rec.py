"""Make lossless records of CIFAR-10 or CIFAR-100 from the official archive, binary or Python version.

    python tools/cifar2rec.py --dataset cifar10 --source cifar-10-binary.tar.gz
    python tools/cifar2rec.py --dataset cifar100 --download

writes cifar10_train.rec (50,000 images, shuffled), cifar10_val.rec (10,000), with .idx and .lst each, and synset.txt.
--source also takes another tar file, or a folder: batches are looked for inside, and in the tar files inside.
A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import lzma
import pickle
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.environment import cores
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.writer import RecordWriter

SITE = "https://www.cs.toronto.edu/~kriz/"
MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
}
PIXELS = 3 * 32 * 32
MEBIBYTE = 1 << 20
LARGEST_BATCH = 256 * MEBIBYTE
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")


class Images(NamedTuple):
    """Labels (N,) and pixels (N, 3072), the planes R, G, B, both uint8."""

    labels: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set as its archives have it.

    Attributes:
        archive: the official binary version.
        train, val: names of the files of the Python version; those of the binary version end in .bin.
        train_images, val_images: images in each of them.
        label_bytes: of an image in the binary version; the label that counts is the last.
        label_key: of the labels in the Python version.
        classes: in the order of the labels.
    """

    archive: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    train_images: int
    val_images: int
    label_bytes: int
    label_key: bytes
    classes: tuple[str, ...]


CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
DATASETS = {
    "cifar10": Dataset(
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        val=("test_batch",),
        train_images=10_000,
        val_images=10_000,
        label_bytes=1,
        label_key=b"labels",
        classes=tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    ),
    "cifar100": Dataset(
        archive="cifar-100-binary.tar.gz",
        train=("train",),
        val=("test",),
        train_images=50_000,
        val_images=10_000,
        label_bytes=2,
        label_key=b"fine_labels",
        classes=tuple(CIFAR100_CLASSES.split()),
    ),
}


class PickledArray:
    """Stands for a NumPy array while a pickle is read: the array is made of its bytes afterwards."""

    state: object = None

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, if it is of uint8 in the order of C. Raises ValueError or TypeError."""
        _, shape, kind, fortran, data = self.state
        if fortran or kind.name not in (b"u1", "u1"):
            raise ValueError("the images are not uint8 in the order of C")
        return np.frombuffer(data, np.uint8).reshape(shape)


class PickledType:
    """Stands for a NumPy dtype while a pickle is read."""

    def __init__(self, name: object, *_: object):
        self.name = name

    def __setstate__(self, _: object) -> None:
        pass


class Unpickler(pickle.Unpickler):
    """Reads containers, numbers, strings and NumPy arrays, and calls nothing that a pickle names."""

    NAMES = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): PickledArray,
        ("numpy", "ndarray"): PickledArray,
        ("numpy", "dtype"): PickledType,
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.NAMES[module, name]


def read_binary(data: bytes, count: int, dataset: Dataset, where: str) -> Images:
    """A file of the binary version. Raises UserError."""
    row = dataset.label_bytes + PIXELS
    if len(data) != count * row:
        raise UserError(f"{where} has {len(data):,} bytes, and {count:,} images are {count * row:,}")
    rows = np.frombuffer(data, np.uint8).reshape(count, row)
    return Images(rows[:, dataset.label_bytes - 1], rows[:, dataset.label_bytes :])


def read_pickle(data: bytes, count: int, dataset: Dataset, where: str) -> Images:
    """A file of the Python version. Raises UserError."""
    try:
        batch = Unpickler(io.BytesIO(data), encoding="bytes").load()
        labels = np.array(batch[dataset.label_key])
        if labels.dtype.kind != "i" or (labels.size and not 0 <= labels.min() <= labels.max() <= 255):
            raise ValueError("the labels are no whole numbers from 0 on")
        images = Images(labels.astype(np.uint8), batch[b"data"].array())
    except Exception as error:  # a damaged pickle can raise any
        raise UserError(f"{where} is not a pickled CIFAR batch: {error!s:.200}") from error
    if images.labels.shape != (count,) or images.pixels.shape != (count, PIXELS):
        raise UserError(
            f"{where} has {images.pixels.shape} pixels and {images.labels.shape} labels, not {count:,} images"
        )
    return images


VERSIONS: dict[str, Callable[[bytes, int, Dataset, str], Images]] = {".bin": read_binary, "": read_pickle}


def load(source: Path, dataset: Dataset) -> tuple[Images, Images]:
    """The training and the validation images. Raises UserError."""
    names = (*dataset.train, *dataset.val)
    found = find(source, names)
    version = max(VERSIONS, key=lambda ending: sum(name + ending in found for name in names))
    missing = [name + version for name in names if name + version not in found]
    if missing:
        raise UserError(f"{source} has no {', '.join(missing)}: is it the whole of the data set?")

    def read(names: tuple[str, ...], count: int) -> Images:
        batches = [checked(VERSIONS[version], *found[name + version], count, dataset) for name in names]
        return Images(*map(np.concatenate, zip(*batches)))

    return read(dataset.train, dataset.train_images), read(dataset.val, dataset.val_images)


def checked(read: Callable[..., Images], data: bytes, where: str, count: int, dataset: Dataset) -> Images:
    """A batch whose labels are classes."""
    images = read(data, count, dataset, where)
    if images.labels.max() >= len(dataset.classes):
        number = int(images.labels.argmax())
        raise UserError(f"{where}, image {number}: there is no class {images.labels[number]}")
    return images


def find(source: Path, names: tuple[str, ...]) -> dict[str, tuple[bytes, str]]:
    """The content of the files of either version and where it is from, until one version is complete."""
    versions = [{name + ending for name in names} for ending in VERSIONS]
    found: dict[str, tuple[bytes, str]] = {}
    for name, data, where in contents(source, set().union(*versions)):
        found.setdefault(name, (data, where))
        if any(version <= found.keys() for version in versions):
            break
    return found


def contents(source: Path, names: set[str]) -> Iterator[tuple[str, bytes, str]]:
    """The (name, content, place) of the files of these ``names`` in a folder, and then of those in its tar files."""
    if not source.exists():
        raise UserError(f"there is no file or folder {source}")
    if source.is_file():
        yield from members(source, names)
        return
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    for path in paths:
        if path.name in names:
            yield path.name, bounded(path.read_bytes, path.stat().st_size, str(path)), str(path)
    for path in paths:
        if path.name.endswith(TAR_ENDINGS):
            yield from members(path, names)


def members(path: Path, names: set[str]) -> Iterator[tuple[str, bytes, str]]:
    """As ``contents``, from a tar file; nothing is unpacked."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name, where = member.name.rpartition("/")[2], f"{path}, {member.name}"
                if member.isfile() and name in names:
                    yield name, bounded(archive.extractfile(member).read, member.size, where), where
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise UserError(f"{path} is not a whole tar file (.tar.gz, .tar.xz): {reason}") from error


def bounded(read: Callable[[], bytes], size: int, where: str) -> bytes:
    if size > LARGEST_BATCH:
        raise UserError(f"{where} has {size:,} bytes, too many for a CIFAR batch")
    return read()


def download(name: str, folder: Path) -> Path:
    """The official archive in ``folder``, where it may be already. Raises UserError unless its checksum is right."""
    path = folder / name
    if path.is_file() and checksum(path) == MD5[name]:
        return path
    with replacing(path) as (part,):
        with part.open("wb") as file:
            file.writelines(received(SITE + name))
        if (found := checksum(part)) != MD5[name]:
            raise UserError(f"{SITE}{name} has the MD5 {found}, not {MD5[name]}: it was not kept, try again")
    return path


def received(url: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            total = -(-int(response.headers["Content-Length"] or 0) // MEBIBYTE)
            yield from progress(iter(lambda: response.read(MEBIBYTE), b""), url, total, unit="MiB")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot download {url}: {getattr(error, 'reason', error)}") from error


def checksum(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(MEBIBYTE), b""):
            md5.update(piece)
    return md5.hexdigest()


def png(pixels: np.ndarray) -> bytes:
    """An image's planes R, G, B (3072,) as a PNG file."""
    bgr = np.ascontiguousarray(pixels.reshape(3, 32, 32)[::-1].transpose(1, 2, 0))
    return cv2.imencode(".png", bgr)[1].tobytes()


def write_split(prefix: Path, images: Images, order: np.ndarray, workers: int) -> None:
    """Write ``images`` in ``order`` to ``PREFIX.rec``, or what is left to do of them."""
    content = zlib.crc32(images.pixels.tobytes(), zlib.crc32(images.labels.tobytes()))
    with RecordWriter(prefix, {"content": content, "order": zlib.crc32(order.tobytes())}) as writer:
        done = 1 + order.tolist().index(writer.last_key) if writer.count else 0
        encoded = compute_ahead(lambda number: png(images.pixels[number]), order[done:].tolist(), workers)
        for number, image in progress(encoded, prefix.name, len(order), done):
            writer.write(number, float(images.labels[number]), image, f"{prefix.name}/{number:05d}.png")
    print(f"{prefix}.rec: {writer.count:,} records of {len(np.unique(images.labels))} classes")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--source", type=Path, help="the archive, or a folder with it or with what was in it")
    source.add_argument("--download", action="store_true", help="get the binary version from its official place")
    parser.add_argument("--out", type=Path, help="folder for the records (data/cifar10 or data/cifar100)")
    parser.add_argument("--seed", type=integer(0), default=0, help="of the order of the training records")
    parser.add_argument("--num-workers", type=integer(1, 1024), default=cores(), help="threads")
    arguments = parser.parse_args()
    dataset = DATASETS[arguments.dataset]
    out = arguments.out or Path("data", arguments.dataset)

    train, val = load(download(dataset.archive, out) if arguments.download else arguments.source, dataset)
    order = np.random.RandomState(arguments.seed).permutation(len(train.labels))
    write_split(out / f"{arguments.dataset}_train", train, order, arguments.num_workers)
    write_split(out / f"{arguments.dataset}_val", val, np.arange(len(val.labels)), arguments.num_workers)
    with replacing(out / "synset.txt") as (synset,):
        synset.write_text("".join(f"{name}\n" for name in dataset.classes))
