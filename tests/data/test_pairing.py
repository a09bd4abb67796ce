"""mxnet_resnet.data.pairing: what is said of training and validation records that may not go together."""

from __future__ import annotations

import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import pairing, recordio
from mxnet_resnet.data.augment import level
from tests.helpers.kinds import encode_kinds
from tests.helpers.pictures import jpeg, photograph, png
from tests.helpers.recordfiles import write_records


def summary_of(*labels: int) -> recordio.Summary:
    return recordio.Summary(len(labels), 0, 9, np.empty(0, np.int64), labels=frozenset(labels))


@pytest.mark.parametrize(
    "train, val, said",
    [
        ((0, 1, 2), (0, 1, 2), []),
        ((0, 1, 2), (0, 2), ["2 classes have validation images, and 3 training images: none of 1."]),
        ((0, 1, 2), (0,), ["1 class has validation images, and 3 training images: none of 1, 2."]),
        ((0, 1), (0, 1, 4), ["Validation has images of classes that training has none of: 4"]),
        ((0,), (0,), []),
    ],
)
def test_classes_that_differ_are_told(train, val, said):
    notes = pairing.compare_labels(summary_of(*train), summary_of(*val), len(train))
    assert len(notes) == len(said) and all(note.startswith(start) for note, start in zip(notes, said))


def test_classes_of_the_net_without_images_are_told():
    labels = range(1, 990)
    (note,) = pairing.compare_labels(summary_of(*labels), summary_of(*labels), 1000)
    assert note.startswith("Training has images of 989 of the 1,000 classes: none of 0, 990, 991,")
    assert note.endswith(" and 1 more. Does --num-classes fit?")


def test_a_summary_has_the_labels_that_there_are(tmp_path):
    path = write_records(tmp_path / "a.rec", [png(photograph(8, 8))] * 4, [5.0, 2.0, 5.0, 9.0])
    assert recordio.scan(path).labels == {2, 5, 9}


def test_names_that_moved_are_told(tmp_path):
    (tmp_path / "t_synset.txt").write_text("a\nb\nc\n")
    (tmp_path / "v_synset.txt").write_text("a\nc\n")
    (note,) = pairing.compare_names(tmp_path / "t_train.rec", tmp_path / "v.rec")
    assert note.startswith(f"c is class 2 in {tmp_path}/t_synset.txt and 1 in {tmp_path}/v_synset.txt")
    assert not pairing.compare_names(tmp_path / "t_train.rec", tmp_path / "t_val.rec")
    assert not pairing.compare_names(tmp_path / "t.rec", tmp_path / "other.rec")


@pytest.mark.parametrize(
    "stored, shape, number, pad, said",
    [
        (32, (3, 32, 32), 1, 4, ""),
        (28, (3, 32, 32), 1, 4, ""),
        (36, (3, 32, 32), 1, 4, ""),
        (40, (3, 32, 32), 1, 4, "cut to 32 pixels from a short side of 40 pixels (the median), and validation scales"),
        (
            24,
            (3, 32, 32),
            1,
            4,
            "a short side of 24 pixels (the median), and validation scales its own to 32",
        ),  # padded
        (8, (3, 32, 32), 1, 4, "a short side of 24 pixels"),  # enlarged up to the padding
        (8, (3, 32, 32), 1, 0, ""),
        (256, (3, 32, 32), 1, 4, "short side of 256 pixels (the median), and validation scales its own to 32"),
        (256, (3, 32, 32), 2, 4, "short side of 256 pixels"),  # which scales no small images
        (80, (3, 80, 80), 1, 0, ""),
        (64, (3, 16, 64), 1, 0, ""),
        (16, (3, 16, 16), 1, 4, ""),
        (16, (3, 16, 40), 1, 0, "cut to 16x40 pixels from a short side of 16 pixels"),  # 16x56 is enough of it
        (256, (3, 224, 224), 1, 0, ""),
        (480, (3, 224, 224), 2, 0, ""),
        (480, (3, 224, 224), 3, 0, ""),
        (480, (3, 224, 224), 1, 0, "validation scales its own to 256: training sees another scale. Records of 256 pix"),
        (1000, (3, 224, 224), 2, 0, "short side of 533 to 1000 pixels (the median)"),
        (1000, (3, 224, 224), 2, 0, "Records of 480 pixels (im2rec.py --resize 480)"),
        (64, (3, 224, 224), 1, 0, ""),  # made 224 for the crop
    ],
)
def test_scales_that_differ_are_told(tmp_path, stored, shape, number, pad, said):
    path = write_records(tmp_path / "a.rec", [jpeg(photograph(stored, stored + 40))] * 3)
    preset = level(number, small_images=max(shape) <= 64)
    notes = pairing.compare_scales(path, recordio.scan(path), shape, preset, pad)
    assert len(notes) == bool(said) and said in "".join(notes)


def test_images_of_another_scale_among_others_are_told_with_their_share(tmp_path):
    small, large = jpeg(photograph(16, 16)), jpeg(photograph(64, 64))
    path = write_records(tmp_path / "a.rec", [large, small, small, small] * 200)
    (note,) = pairing.compare_scales(path, recordio.scan(path), (3, 16, 16), level(1, True), 4)
    share, _, rest = note.partition("%")
    assert 15 < int(share) < 35 and rest.startswith(
        f" of the images in {path} are cut to 16 pixels from a short side of 64"
    )
    few = write_records(tmp_path / "b.rec", [large] + [small] * 19)
    assert not pairing.compare_scales(few, recordio.scan(few), (3, 16, 16), level(1, True), 4)


@pytest.mark.parametrize("kind, plain", [("JPEG, turned", True), ("PNG", True), ("PNG, RGBA", False), ("GIF", False)])
def test_what_imagerecorditer_sees_otherwise_is_refused(tmp_path, kind, plain):
    data, _ = encode_kinds()[kind]
    path = write_records(tmp_path / "a.rec", [jpeg(photograph(8, 8)), png(photograph(8, 8)), data], [0.0, [1.0], 2.0])
    summary = recordio.scan(path)
    if plain:
        recordio.check_plain(path, summary, "imagerecorditer")
    else:
        with pytest.raises(UserError, match=r"record 2, byte .*imagerecorditer does not see its image as all"):
            recordio.check_plain(path, summary, "imagerecorditer")
