"""tools/imagenet11k.py: the classes that it keeps and the images that it holds out."""

from pathlib import Path

import pytest

from tests.helpers.archives import QUICK, RECORDS, jpeg, make, refused, sources, tar_of_tars, written
from tests.helpers.recordfiles import files_of


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
    assert files_of(tmp_path / "a", "[!.]*") == files_of(tmp_path / "b", "[!.]*")
    assert set(written(tmp_path / "a" / RECORDS[2])) != set(written(tmp_path / "c" / RECORDS[2]))


def test_11k_tells_what_it_cannot_do(all_of_imagenet, tmp_path, command, capsys):
    for more, message in (
        ((), "no class has 500 images: lower --min-images"),
        (("--min-images", 9, "--val-per-class", 9), "would leave a class of 9 images"),
        (("--tar", tmp_path / "none.tar"), "No such file"),
    ):
        given = ("--tar", all_of_imagenet, "--out", tmp_path, *more)
        assert message in refused(command, capsys, tmp_path, *given, tool="imagenet11k")
