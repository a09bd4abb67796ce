"""Images in folders, which are their classes, as a list with labels; and what of the folders is not in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.classnames import MOST_NAMED, name_some, number_folders, read_names
from mxnet_resnet.data.encoder import explain_no_file
from mxnet_resnet.data.imageheader import EXTENSIONS
from mxnet_resnet.data.lists import ListLine, Skipped

MOST_WAYS = 10  # into a folder, by links


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        lines: its images.
        classes: the names of the classes, in the order of the labels.
        skipped: what has the name of an image and cannot be listed.
        notes: sentences on what is not in the list, and on what was taken for classes.
    """

    lines: list[ListLine]
    classes: list[str]
    skipped: list[Skipped]
    notes: list[str]


@dataclass
class _Walk:
    """What is found on the way through the folders.

    Attributes:
        images: the paths of images by their folders, in the order of the walk.
        others: counts of the endings of other files, by their folders; hidden files do not count.
        bare: folders that may have been meant as classes, and have no image.
        unvisited: subfolders that are not looked into.
        passed: folders that links lead to once too often.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, Counter[str]] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    unvisited: int = 0
    passed: list[str] = field(default_factory=list)


def list_folder(root: Path, extensions: Collection[str], recursive: bool, synset: Path | None = None) -> Listing:
    """The images of a folder with label 0, or, ``recursive``, each subfolder that has images as a class.

    Labels follow the sorted paths of the subfolders, as in MXNet's im2rec, or the lines of ``synset``. Raises UserError
    where there is no image, and for a folder that ``synset`` does not name.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    walk = _walk(root, extensions, recursive)
    if not walk.images:
        hint = "" if recursive else ", and its subfolders are classes with --recursive only"
        raise UserError(f"{root} has no images ({' '.join(sorted(extensions))}){hint}")
    found_names = [_name_folder(root, folder) for folder in walk.images]
    if synset is None:
        classes, labels = found_names, list(range(len(found_names)))
    else:
        classes = read_names(synset)
        labels = _find_labels(found_names, number_folders(classes, synset), root, synset)
    found = [(float(label), path) for label, paths in zip(labels, walk.images.values()) for path in paths]
    lines = [ListLine(key, label, path) for key, (label, path) in enumerate(found)]
    notes = [*_note_classes(root, walk, classes, labels, synset), *_note_rest(root, walk, extensions)]
    return Listing(lines, classes, walk.skipped, notes)


def _name_folder(root: Path, folder: str) -> str:
    """What the class of a folder is called, whose path begins at ``root``."""
    return root.resolve().name if folder == os.curdir else folder


def _find_labels(names: Sequence[str], labels: Mapping[str, int], root: Path, synset: Path) -> list[int]:
    """The labels of folders. Raises UserError for one that ``synset`` does not name."""
    if unknown := [name for name in names if name not in labels]:
        raise UserError(
            f"{synset} does not name {name_some(unknown)}, where {root} has images: folders have to be called as the "
            "classes"
        )
    return [labels[name] for name in names]


def _walk(root: Path, extensions: Collection[str], recursive: bool) -> _Walk:
    walk = _Walk()

    def note_unreadable(error: OSError) -> None:
        walk.skipped.append(Skipped(os.path.relpath(error.filename, root), str(error.strerror)))

    for folder, folders, files in walk_folders(root, note_unreadable, walk.passed):
        inner = os.path.relpath(folder, root)
        listed = {file for file in (*folders, *files) if _ending(file) in extensions}
        for file in sorted(listed):
            path = os.path.normpath(os.path.join(inner, file))
            if reason := _unlistable(path, root):
                walk.skipped.append(Skipped(path, reason))
            else:
                walk.images.setdefault(inner, []).append(path)
        others = Counter(_ending(file) for file in files if file not in listed and not file.startswith("."))
        if others:
            walk.others[inner] = others
        inside = sorted(one for one in folders if _ending(one) not in extensions)
        if inner not in walk.images and (listed or not inside or others.keys() & EXTENSIONS):
            walk.bare.append(inner)
        walk.unvisited += 0 if recursive else len(inside)
        folders[:] = inside if recursive else []
    return walk


def _note_classes(
    root: Path, walk: _Walk, classes: Sequence[str], labels: Sequence[int], synset: Path | None
) -> list[str]:
    """What was taken for classes, where that may not be what was meant."""
    notes = []
    with_images = set(labels)
    if missing := [name for label, name in enumerate(classes) if label not in with_images]:
        notes.append(
            f"{root} has no images of {len(missing):,} of the {len(classes):,} classes of {synset}: "
            f"{name_some(missing)}"
        )
    if hidden := [folder for folder in walk.images if Path(folder).name.startswith(".") and folder != os.curdir]:
        notes.append(f"hidden folders with images are classes too: {name_some(hidden)}")
    first = next(iter(walk.images))  # the folder itself, where it has images
    if len(labels) == 1:
        name = _name_folder(root, first)
        notes.append(f"all images have the label {labels[0]}: {root} has one folder with images, {name}")
    elif first == os.curdir:
        name = _name_folder(root, first)
        notes.append(f"the images that lie in {root} itself are a class, {name}, with the label {labels[0]}")
    return notes


def _note_rest(root: Path, walk: _Walk, extensions: Collection[str]) -> list[str]:
    """Folders without images and files of other names."""
    notes = []
    for folder in walk.bare[:MOST_NAMED]:
        found = (
            f"{count_endings(walk.others[folder])}, and none that --exts names" if folder in walk.others else "no image"
        )
        notes.append(f"{_name_folder(root, folder)} is no class: it has {found}")
    if len(walk.bare) > MOST_NAMED:
        notes.append(f"{len(walk.bare) - MOST_NAMED:,} folders more are no classes")
    if rest := sum(walk.others.values(), Counter()):
        notes.append(f"left out, as --exts ({' '.join(sorted(extensions))}) does not name them: {count_endings(rest)}")
    if walk.passed:
        notes.append(describe_passed(walk.passed))
    if walk.unvisited:
        notes.append(f"{walk.unvisited:,} subfolders are not looked into without --recursive")
    return notes


def count_endings(endings: Counter[str]) -> str:
    """``8 files (.bmp 4, .webp 4)``, of counts by the endings of names."""
    total = sum(endings.values())
    frequent = sorted(endings.items(), key=lambda one: (-one[1], one[0]))
    each = [f"{ending or 'without an ending'} {count:,}" for ending, count in frequent[:MOST_NAMED]]
    more = ", ..." if len(endings) > MOST_NAMED else ""
    return f"{total:,} file{'s' if total > 1 else ''} ({', '.join(each)}{more})"


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _unlistable(path: str, root: Path) -> str:
    """Why ``path`` cannot stand in a list, or nothing."""
    if path != path.strip() or set(path) & set("\t\n\r"):
        return "a list cannot hold its name: white space"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "a list cannot hold its name: not UTF-8"
    return explain_no_file(root / path)


def walk_folders(
    root: str | Path, note: Callable[[OSError], None], passed: list[str]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, through links too; but not back, and into no folder more than MOST_WAYS: links to folders of links
    would multiply. The paths of those that are passed over then go to ``passed``.
    """
    ways: Counter[tuple[int, int]] = Counter()

    def is_new(folder: str, name: str) -> bool:
        try:
            found = os.stat(os.path.join(folder, name))
        except OSError:
            return True  # os.walk tells
        ways[found.st_dev, found.st_ino] += 1
        if ways[found.st_dev, found.st_ino] > MOST_WAYS:
            passed.append(os.path.join(folder, name))
            return False
        return True

    for folder, folders, files in os.walk(root, onerror=note, followlinks=True):
        folders[:] = [name for name in folders if not leads_back(folder, name) and is_new(folder, name)]
        yield folder, folders, files


def describe_passed(passed: Sequence[str]) -> str:
    """A sentence on what `walk_folders` has passed over."""
    first = f"{passed[0]}, and {len(passed) - 1:,} more" if len(passed) > 1 else passed[0]
    return f"links lead to folders in more than {MOST_WAYS} ways, which are not followed further: {first}"


def leads_back(folder: str, name: str) -> bool:
    """Whether a subfolder is a link to a folder that it lies in, so that a walk would not end."""
    path = Path(folder, name)
    if not path.is_symlink():
        return False
    here = Path(os.path.abspath(folder))
    return any(above.resolve().is_relative_to(path.resolve()) for above in (here, *here.parents))
