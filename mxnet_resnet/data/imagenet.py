"""The labels of ImageNet: of ILSVRC 2012, in which 1000 classes are known, and of all of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import tarwalk
from mxnet_resnet.data.matfile import read_structures
from mxnet_resnet.data.tars import TarImages

VAL_SIZE = 256  # pixels of the short side of validation images
PUBLISHED = {"train": 1281167, "val": 50000}  # images
LARGEST_FILE = 1 << 24  # bytes of a file of the development kit
META, GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


def read_wordnet_ids(val: TarImages, known: list[str], devkit: Path | None, labels: Path | None) -> list[str]:
    """The WordNet id of each validation image.

    Args:
        val: the images, in the order of their names.
        known: the WordNet ids of all classes, sorted.
        devkit: the development kit, a tar, which tells what its numbers of classes mean; or None.
        labels: a list of labels, or None to take that of the development kit.

    Raises UserError where there is not one label of a known class for each image.
    """
    where = labels or devkit
    numbers, lines = _read_devkit(devkit) if devkit else ({}, [])
    if labels:
        lines = _read_lines(labels)
    if len(lines) != len(val):
        raise UserError(f"{where} has {len(lines):,} labels, and {val.tar} {len(val):,} images")
    if len(lines[0]) == 2:
        lines = _sort_by_name(dict(lines), val, where)
        numbers = {str(rank): wordnet_id for rank, wordnet_id in enumerate(known)}
    meaning = {number: wordnet_id for number, wordnet_id in numbers.items() if wordnet_id in known}
    meaning.update(zip(known, known))
    for (label,) in lines:
        if label not in meaning:
            hint = ": --devkit tells what numbers mean" if label.isdecimal() and not numbers else ""
            raise UserError(f"{where}: the label {label!r} is of no class{hint}")
    return [meaning[label] for (label,) in lines]


def _read_devkit(path: Path) -> tuple[dict[str, str], list[list[str]]]:
    """The WordNet id of each number of the development kit, and the lines of its ground truth."""
    files: dict[str, bytes] = {}
    try:
        with tarwalk.opened(path) as (devkit, end):
            for member in tarwalk.walk_members(devkit, path, 0, end):
                for wanted in (META, GROUND_TRUTH):
                    if member.name.endswith(wanted):
                        if member.size > LARGEST_FILE:
                            raise UserError(f"{member.name} has {member.size:,} bytes, too many for one")
                        files[wanted] = tarwalk.read_member(devkit, member)
    except UserError as error:
        raise UserError(f"cannot read the development kit: {error}") from error
    for wanted in (META, GROUND_TRUTH):
        if wanted not in files:
            raise UserError(f"{path} is not the development kit of ILSVRC 2012 (task 1 and 2): it has no {wanted}")
    return _read_meta(files[META], path), [[label] for label in files[GROUND_TRUTH].decode(errors="replace").split()]


def _read_meta(data: bytes, path: Path) -> dict[str, str]:
    """The WordNet id of each number in ``meta.mat``."""
    try:
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in read_structures(data, "synsets")}
    except (ValueError, KeyError, OverflowError, struct.error, zlib.error) as error:
        raise UserError(f"{META} of {path} does not tell the ILSVRC2012_ID and WNID of synsets") from error


def _read_lines(path: Path) -> list[list[str]]:
    """The words of each line of a ground-truth list: a label, or a file and its label."""
    text = sources.read_text(path, "the labels", sources.LARGEST_TEXT)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for number, words in enumerate(lines, 1):
        if len(words) != len(lines[0]) or len(words) > 2:
            raise UserError(f"{path}, line {number}: neither a label nor a file and its label, as line 1 would have it")
    return lines


def _sort_by_name(labels: dict[str, str], val: TarImages, where: Path | None) -> list[list[str]]:
    """The labels of files as lines in the order of the images."""
    labels = {Path(file).name: label for file, label in labels.items()}
    names = [val.name(number) for number in range(len(val))]
    for name in names:
        if name not in labels:
            raise UserError(f"{where} has no label of {name}, which is in {val.tar}")
    return [[labels[name]] for name in names]


def label_validation(val: TarImages, ids: list[str], classes: list[str]) -> TarImages:
    """The validation images with the ranks of their classes; those of other WordNet ids than ``classes`` left out."""
    ranks = {wordnet_id: rank for rank, wordnet_id in enumerate(classes)}
    return val.labelled(np.array([ranks.get(wordnet_id, -1) for wordnet_id in ids], np.int32), classes)


def check_classes(train: TarImages, known: list[str], allow_partial: bool) -> None:
    """Raise UserError unless the training images are of the 1000 classes, or of some of them where that is allowed."""
    strange = sorted(set(train.classes) - set(known))
    if strange:
        raise UserError(f"{train.tar}: {strange[0]} is none of the {len(known)} classes of ILSVRC 2012")
    empty = np.flatnonzero(train.counts() == 0)
    if len(empty):
        raise UserError(f"{train.tar}: the class {train.classes[empty[0]]} has no images")
    if len(train.classes) < len(known) and not allow_partial:
        lacking = min(set(known) - set(train.classes))
        raise UserError(
            f"{train.tar} has {len(train.classes)} of {len(known)} classes, {lacking} is missing: "
            "--allow-partial labels them from 0 on without the others"
        )


def drop_small_classes(images: TarImages, min_images: int) -> TarImages:
    """The images of the classes that have ``min_images``, labelled by the rank among these."""
    large = images.counts() >= min_images
    if not large.any():
        raise UserError(f"{images.tar}: no class has {min_images} images: lower --min-images")
    ranks = np.where(large, np.cumsum(large) - 1, -1)
    classes = [wordnet_id for wordnet_id, kept in zip(images.classes, large) if kept]
    return images.labelled(ranks[images.table["label"]], classes)


def choose_held_out(images: TarImages, per_class: int, seed: int) -> np.ndarray:
    """Whether each image is one of the ``per_class`` random ones of its class. The images lie class by class."""
    random = np.random.RandomState(seed)
    chosen = np.zeros(len(images), bool)
    begin = 0
    for count in images.counts():
        chosen[begin + random.permutation(count)[:per_class]] = True
        begin += count
    return chosen
