"""mxnet_resnet.train.checks: what is said of records before a run begins."""

from __future__ import annotations

import pytest

from mxnet_resnet.data import recordio
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.checks import note_records
from tests.helpers.pictures import photograph, png
from tests.helpers.recordfiles import write_records


@pytest.mark.parametrize("side, classes, words", [(32, 3, ()), (200, 1, ("1 class has", "another scale"))])
def test_records_that_do_not_go_together_are_told(tmp_path, side, classes, words):
    image = png(photograph(side, side))
    files = {
        name: write_records(tmp_path / f"{name}.rec", [image] * 6, [float(number % count) for number in range(6)])
        for name, count in (("train", 3), ("val", classes))
    }
    flags = "--data-type custom --image-shape 3,32,32 --num-classes 3 --depth 8 --batch-size 2 --gpus none"
    settings = parse([*flags.split(), "--data-train", str(files["train"]), "--data-val", str(files["val"])])
    notes = note_records(settings, {path: recordio.scan(path) for path in files.values()})
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes))


def test_each_stage_of_the_augmentation_is_looked_at(tmp_path):
    files = {}
    for name, side in (("train", 480), ("off", 480), ("val", 256)):
        files[name] = write_records(tmp_path / f"{name}.rec", [png(photograph(side, side))] * 2)
    flags = "--data-type custom --image-shape 3,224,224 --num-classes 1 --depth 18 --batch-size 2 --gpus none"
    places = ["--data-train", str(files["train"]), "--data-val", str(files["val"])]
    summaries = {path: recordio.scan(path) for path in files.values()}
    told = {
        more: note_records(parse([*flags.split(), *places, *more.split()]), summaries)
        for more in ("--aug-level 1", "--aug-level 2", "--aug-level 2 --aug-off-epoch 3")
    }
    assert [len(notes) for notes in told.values()] == [1, 0, 1]
