"""The commonest mistakes: commands, what they read, and what can be wrong with it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NOBODY = 65534
HUGE = 10 << 30  # bytes of a file that takes none on the disk
NET = "--prefix {at}/net --epoch 1"
FILES_OF_NET = ("net-symbol.json", "net-0001.params", "net-0001.json")
TRAIN = (
    "train --data-type digits --depth 8 --gpus none --engine mxnet --epochs 1 --batch-size 30 --frequent 5 "
    "--data-train {at}/a.rec --data-val {at}/b.rec --log-dir {at}/out/log "
)


@dataclass(frozen=True)
class Case:
    """A command that reads files.

    Attributes:
        words: the command, in which {at} is the folder of the files.
        reads: the files that are made faulty, one at a time.
        ends: with what status it ends where nothing is wrong; None where it is not run so.
        flags: those whose values it reads; the rest has cases of its own.
        bears: (file, fault) that it goes on with, or has a report on.
    """

    words: str
    reads: tuple[str, ...]
    flags: tuple[str, ...]
    ends: int | None = 0
    bears: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @property
    def command(self) -> str:
        return self.words.split()[0]

    def line(self, at: Path) -> list[str]:
        return [word.format(at=at) for word in shlex.split(self.words)]


def remove(path: Path) -> None:
    path.unlink()


def forbid(path: Path) -> None:
    path.chmod(0)


def be_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def be_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def be_huge(path: Path) -> None:
    empty(path)
    os.truncate(path, HUGE)


def forbid_folder(path: Path) -> None:
    path.parent.chmod(0)


FAULTS: dict[str, Callable[[Path], None]] = {
    "missing": remove,
    "unreadable": forbid,
    "folder": be_folder,
    "empty": empty,
    "cut": cut,
    "fifo": be_pipe,
    "too-large": be_huge,
    "in-a-closed-folder": forbid_folder,
}


def bears(*pairs: str) -> frozenset[tuple[str, str]]:
    """``file: fault fault`` as pairs."""
    split = (pair.partition(": ") for pair in pairs)
    return frozenset((name, fault) for name, _, faults in split for fault in faults.split())


def passed_over(name: str) -> frozenset[tuple[str, str]]:
    """What is one of many is told, and the rest is worked on."""
    return frozenset((name, fault) for fault in FAULTS if fault != "in-a-closed-folder")


# Without the entry of a run nothing vouches for its parameters, and they are taken as they are.
ENTRY = "net-0001.json: missing"

CASES = (
    Case(
        f"predict --img {{at}}/image.png {NET} --synset {{at}}/names.txt",
        ("image.png", "names.txt", *FILES_OF_NET),
        ("--img", "--prefix", "--synset"),
        bears=bears(ENTRY),
    ),
    Case(
        "predict --img {at}/images.lst --root {at} " + NET,
        ("images.lst", "image.png"),
        ("--root",),
        bears=passed_over("image.png"),
    ),
    Case(f"predict --img {{at}}/a.rec {NET}", ("a.rec",), ()),
    Case("predict --img {at}/image.png --params {at}/net-0001.params", ("net-0001.params",), ("--params",)),
    Case(f"evaluate --data {{at}}/b.rec {NET}", ("b.rec", *FILES_OF_NET), ("--data", "--prefix"), bears=bears(ENTRY)),
    Case(f"evaluate --data {{at}}/b.rec {NET} --synset {{at}}/names.txt", ("names.txt",), ("--synset",)),
    Case("evaluate --data {at}/b.rec --params {at}/net-0001.params", ("net-0001.params",), ("--params",)),
    Case(
        f"explain --img {{at}}/image.png --out {{at}}/out/heat.png {NET} --synset {{at}}/names.txt",
        ("image.png", "names.txt", *FILES_OF_NET),
        ("--img", "--prefix", "--synset"),
        bears=bears(ENTRY),
    ),
    Case(
        f"explain --img {{at}}/images.lst --root {{at}} --out {{at}}/out/heat.png {NET}", ("images.lst",), ("--root",)
    ),
    Case(
        "explain --img {at}/image.png --out {at}/out/heat.png --params {at}/net-0001.params",
        ("net-0001.params",),
        ("--params",),
    ),
    Case(f"export --to folded --out {{at}}/out/x {NET}", FILES_OF_NET, ("--prefix",), bears=bears(ENTRY)),
    Case(
        f"export --to int8 --calib {{at}}/a.rec --val {{at}}/b.rec --images 20 --most 100 --out {{at}}/out/x {NET}",
        ("a.rec", "b.rec"),
        ("--calib", "--val"),
    ),
    Case("export --to folded --params {at}/net-0001.params --out {at}/out/x", ("net-0001.params",), ("--params",)),
    Case(
        f"export --to onnx --out {{at}}/out/x.onnx --synset {{at}}/names.txt {NET}", ("names.txt",), ("--synset",), None
    ),
    Case(
        "convert {at}/net {at}/out/x --images {at}/image.png",
        ("image.png", *FILES_OF_NET),
        ("source", "--images"),
        bears=bears(ENTRY),
    ),
    Case("convert {at}/net-0001.params {at}/out/x.params", ("net-0001.params",), ()),
    Case("convert {at}/net.pth {at}/out/x", ("net.pth",), (), None),
    Case("convert {at}/net.safetensors {at}/out/x", ("net.safetensors",), (), None),
    Case(
        "check_rec {at}/a.rec --repair {at}/out/b",
        ("a.rec", "a.idx", "a.lst"),
        ("files",),
        bears=bears("a.idx: missing empty", "a.lst: missing empty"),
    ),
    Case(
        "im2rec {at}/out/x {at}/images --synset {at}/classes.txt",
        ("classes.txt",),
        ("root", "--synset"),
    ),
    Case(
        "im2rec {at}/x {at}/images --num-workers 1",
        ("x.lst", "images/a/000.jpg"),
        ("prefix",),
        bears=bears("x.lst: missing", "images/a/000.jpg: in-a-closed-folder") | passed_over("images/a/000.jpg"),
    ),
    Case("cifar2rec --dataset cifar10 --source {at}/val.tar --out {at}/out", ("val.tar",), ("--source",), 2),
    Case(
        "imagenet2rec --train {at}/train.tar --val {at}/val.tar --devkit {at}/devkit.tar.gz --out {at}/out/r "
        "--allow-partial --sizes 64,32 --num-workers 1",
        ("train.tar", "val.tar", "devkit.tar.gz"),
        ("--train", "--val", "--devkit"),
    ),
    Case(
        "imagenet2rec --only val --val {at}/val.tar --val-labels {at}/labels.txt --out {at}/out/r --num-workers 1",
        ("labels.txt",),
        ("--val-labels",),
    ),
    Case(
        "imagenet11k --tar {at}/train.tar --out {at}/out/r --min-images 2 --val-per-class 1 --sizes 64,32 "
        "--num-workers 1",
        ("train.tar",),
        ("--tar",),
    ),
    Case("show_augment {at}/image.png --out {at}/out/a.png --columns 1", ("image.png",), ("image",)),
    Case(
        "plot_curve --logs {at}/train.log {at}/metrics.jsonl --out {at}/out/a.png --csv {at}/out/a.csv",
        ("train.log", "metrics.jsonl"),
        ("--logs",),
    ),
    Case("aggregate --logs {at}/train.log --csv {at}/out/a.csv", ("train.log",), ("--logs",)),
    Case("launch -n 1 -H {at}/hosts true", ("hosts",), ("--hostfile",), None),
    Case(
        TRAIN + "--model-prefix {at}/out/net --recipe {at}/recipe.yaml",
        ("recipe.yaml", "a.rec", "b.rec"),
        ("--recipe", "--data-train", "--data-val"),
    ),
    Case(
        TRAIN + "--model-prefix {at}/out/net --retrain --load-params {at}/net-0001.params",
        ("net-0001.params", "net-0001.json"),
        ("--load-params",),
        bears=bears(ENTRY),
    ),
    Case(
        TRAIN + "--model-prefix {at}/net --resume --epochs 2",
        ("net-latest.json", "net-0001.state", *FILES_OF_NET),
        ("--model-prefix",),
        None,
        bears("net-latest.json: missing empty", "net-symbol.json: missing unreadable empty too-large"),
    ),
    Case(TRAIN + "--model-prefix {at}/net --eval-only", FILES_OF_NET, (), bears=bears(ENTRY)),
)
READ_NOTHING = ("digits2rec", "model_table")
# Flags of text or of a path that name no file to read: what is written, and words.
NO_FILES = {
    "--out", "--output", "--network", "--mean", "--std", "--json", "--csv", "--sheet", "--repair", "--names",
    "--metric",
    "--seed", "target", "prefix", "--exts", "--host", "--log-dir", "--data-dir", "--image-shape", "--root", "--prefix",
    "--synset", "--params",
}  # fmt: skip


def copy(stage: Path, target: Path) -> Path:
    """The files of the cases, in a folder where others than the owner may write to ``out`` and the lists."""
    shutil.copytree(stage, target)
    for folder in (target, target / "out"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    for path in target.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    return target
