"""predict/predict.py: what names images and nets, formats, pictures, and files that are bad."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mxnet_resnet.base import errors
from mxnet_resnet.data import transform
from tests.helpers import REPOSITORY


@pytest.fixture
def predict(command, capsys, trained):
    def run(*arguments, net=("--prefix", trained / "model/net", "--epoch", 3)):
        return command(capsys, "predict/predict.py", *net, *arguments)

    return run


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_one_image_is_two_lines_and_many_have_names(predict, digits):
    first, second = sorted((digits / "val").iterdir())[:2]
    status, out, err = predict("--img", first)
    assert (status, err) == (0, "") and [line[:6] for line in out.splitlines()] == ["top-1:", "top-5:"]
    status, out, _ = predict("--img", first, second, "--topk", 3)
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        str(first),
        "top-1",
        "top-3",
        str(second),
        "top-1",
        "top-3",
    ]


def test_each_way_to_name_images_finds_the_same_ones(predict, digits, tmp_path, monkeypatch):
    paths = sorted((digits / "val").iterdir())[:7]
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    (folder / "notes.txt").write_text("no image, and not looked at")
    for path in paths:
        (folder / ("deeper" if path is paths[-1] else "") / path.name).write_bytes(path.read_bytes())
    copies = [*sorted(folder.glob("*.png")), folder / "deeper" / paths[-1].name]
    list_file = folder / "some.lst"
    list_file.write_text("".join(f"{n}\t4\t{path.relative_to(folder)}\n" for n, path in enumerate(copies)))

    def found(*sources, note=""):
        status, out, err = predict("--format", "jsonl", "--batch-size", 3, "--img", *sources)
        assert (status, re.sub(" in .*", "", err)) == (0, note)
        return lines(out)

    expected = found(*copies)
    assert [one["image"] for one in expected] == list(map(str, copies))
    answers = [one["top"] for one in expected]
    assert len({json.dumps(top) for top in answers}) == 7
    in_folder = found(folder, note="note: 2 files (.lst 1, .txt 1)\n")
    assert {json.dumps(one["top"]) for one in in_folder} == set(map(json.dumps, answers))
    assert found(f"{folder}/**/*.png") == sorted(expected, key=lambda one: one["image"])
    listed = found(list_file)
    assert [one["top"] for one in listed] == answers and {one["label"] for one in listed} == {4}
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{path}\n" for path in copies)))
    assert found("-") == expected
    assert [one["top"] for one in found(*paths)] == answers


def test_records_have_their_numbers_and_labels(predict, digits):
    status, out, _ = predict("--img", digits / "digits_val.rec", "--format", "jsonl", "--topk", 1)
    found = lines(out)
    table = [line.split("\t") for line in (digits / "digits_val.lst").read_text().splitlines()]
    assert status == 0 and [one["label"] for one in found] == [int(float(label)) for _, label, _ in table]
    assert found[12]["image"] == f"{digits}/digits_val.rec[12]"
    assert np.mean([one["label"] == one["top"][0]["class"] for one in found]) > 0.3


def test_csv_has_a_row_a_class(predict, digits, tmp_path):
    image = tmp_path / 'a,"b".png'
    image.write_bytes((digits / "val/0021-1.png").read_bytes())
    status, out, _ = predict("--img", image, "--format", "csv", "--topk", 100, "--synset", digits / "synset.txt")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and len(rows) == 10 and {row["image"] for row in rows} == {str(image)}
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 11)]
    assert all(row["name"] == f"digit {row['class']}" for row in rows)
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-4)


def test_bad_files_are_passed_over(predict, digits, tmp_path):
    good = sorted((digits / "val").iterdir())[:3]
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:-20])
    sources = (good[0], tmp_path / "text.png", good[1], tmp_path / "cut.png", "none.jpg", "no*ne", tmp_path / "x.lst")
    status, out, err = predict("--img", *sources, good[2], "--format", "jsonl")
    assert status == 1 and [one["image"] for one in lines(out)] == list(map(str, good))
    told = err.splitlines()
    assert told.pop() == "5 passed over, 3 classified"
    assert len(told) == 5 and all(line.startswith("error: ") for line in told)
    for line, words in zip(told, ("not an image", "cut short", "No such file", "nothing is called", "x.lst")):
        assert words in line
    assert predict("--img", *sources[1:2], *sources[3:])[:2] == (2, "")


def test_a_damaged_record_file_gives_what_is_before_the_damage(predict, digits, tmp_path):
    data = (digits / "digits_val.rec").read_bytes()
    (tmp_path / "cut.rec").write_bytes(data[: len(data) // 2])
    status, out, err = predict("--img", tmp_path / "cut.rec", "--format", "jsonl")
    assert status == 1 and 100 < len(lines(out)) < 200
    problem, count = err.splitlines()
    assert "the file" in problem and count == f"1 passed over, {len(lines(out))} classified"


def test_a_picture_has_every_image(predict, digits, tmp_path):
    one, many = tmp_path / "one.png", tmp_path / "many.png"
    images = sorted((digits / "val").iterdir())
    assert predict("--img", images[0], "--out", one)[0] == 0
    status, _, err = predict("--img", *images[:70], "--out", many)
    assert status == 0 and "the first 60 of 70" in err
    small, large = cv2.imread(str(one)), cv2.imread(str(many))
    assert large.shape[1] == 4 * small.shape[1] and large.shape[0] == 15 * small.shape[0]
    assert np.ptp(small) == 255
    status, out, err = predict("--img", images[0], "--out", tmp_path / "x.docx")
    assert (status, out) == (2, "") and "has to end in" in err


@pytest.mark.parametrize("which", ["best", "latest"])
def test_an_epoch_can_be_the_best_or_the_latest(predict, trained, digits, tmp_path, which):
    image, prefix = digits / "val/0021-1.png", trained / "model/net"
    pointed = json.loads((trained / f"model/net-{which}.json").read_text())["checkpoint"]
    expected = predict("--img", image, net=("--prefix", prefix, "--epoch", int(pointed)))
    assert predict("--img", image, net=("--prefix", prefix, "--epoch", which)) == expected
    for name in ("net-symbol.json", "net-0002.params"):
        (tmp_path / name).write_bytes((trained / "model" / name).read_bytes())
    status, _, err = predict("--img", image, net=("--prefix", tmp_path / "net", "--epoch", which))
    assert status == 2 and f"net-{which}.json is not there" in err and "the epochs there are 2" in err
    status, _, err = predict("--img", image, net=("--prefix", tmp_path / "other", "--epoch", which))
    assert status == 2 and f"the prefixes there are {tmp_path}/net" in err


def test_without_an_epoch_the_latest_that_is_there_is_taken(predict, trained, digits, tmp_path):
    image = digits / "val/0021-1.png"
    for name in ("net-symbol.json", "net-0001.params", "net-0002.params"):
        (tmp_path / name).write_bytes((trained / "model" / name).read_bytes())
    for folder, epoch in ((tmp_path, 2), (trained / "model", 3)):
        _, expected, _ = predict("--img", image, net=("--prefix", folder / "net", "--epoch", epoch))
        status, out, err = predict("--img", image, net=("--prefix", folder / "net"))
        assert (status, out) == (0, expected)
        assert f"taking {folder}/net-{epoch:04d}.params, the latest that is there" in err


def test_parameters_alone_make_the_net(predict, trained, digits, tmp_path):
    from mxnet_resnet.use import reading, writing

    source = reading.read_known(str(trained / "model/net"), 3)
    writing.write_gluon(tmp_path / "alone.params", source)
    image = digits / "val/0021-1.png"
    assert predict("--img", image, net=("--params", tmp_path / "alone.params")) == predict("--img", image)
    data = (tmp_path / "alone.params").read_bytes()
    (tmp_path / "cut.params").write_bytes(data[: len(data) // 2])
    status, _, err = predict("--img", image, net=("--params", tmp_path / "cut.params"))
    assert status == 2 and "cut.params is cut short" in err
    status, _, err = predict("--img", image, net=("--network", "resnet18"))
    assert status == 2 and "--network goes with --params" in err


def test_ten_crops_are_averaged(predict, trained, photo, tmp_path):
    import mxnet as mx

    from mxnet_resnet.engines.mxnet import nets
    from mxnet_resnet.engines.mxnet.predictor import Predictor
    from mxnet_resnet.use import reading
    from mxnet_resnet.use.classifier import Classifier

    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    net = nets.adopt(reading.read_checkpoint(str(trained / "model/net"), 3))
    crops = transform.crops(photo[:, :, ::-1], net.image_shape, "ten")
    classifier = Classifier(Predictor(net, mx.cpu(), 1))
    assert classifier.probabilities(np.empty((0, *crops.shape), np.uint8)).shape == (0, 10)
    one_by_one = classifier.probabilities(crops[:, None])
    assert np.abs(one_by_one - one_by_one[0]).max() > 1e-3
    _, out, _ = predict("--img", tmp_path / "photo.png", "--crop", "ten", "--format", "jsonl", "--batch-size", 4)
    for answer in lines(out)[0]["top"]:
        assert answer["probability"] == pytest.approx(one_by_one[:, answer["class"]].mean(), abs=1e-5)


def test_a_net_on_normalised_images_gets_them(shared):
    from mxnet_resnet.use import reading

    prefix = str(shared / "checkpoints/cifar_resnet20_v2")
    given = reading.Given(mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.3))
    assumed, told = reading.read_checkpoint(prefix, 0), reading.read_checkpoint(prefix, 0, given)
    np.testing.assert_allclose(assumed.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(told.mean, [127.5, 102, 76.5], rtol=1e-6)
    np.testing.assert_allclose(told.std, [51, 25.5, 76.5], rtol=1e-6)
    assert any("normalised" in note for note in assumed.notes) and not any("normalised" in n for n in told.notes)


def test_a_published_graph_in_the_old_format_classifies(predict, shared, photo, tmp_path):
    import mxnet as mx

    graph = shared / "symbols/tornadomeet-resnet-18-symbol.json"
    symbol = mx.sym.load(str(graph))
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 224, 224))
    names = {f"arg:{name}": shape for name, shape in zip(symbol.list_arguments(), shapes)}
    names.update({f"aux:{name}": shape for name, shape in zip(symbol.list_auxiliary_states(), aux_shapes)})
    arrays = {
        name: mx.nd.full(shape, 0.01) for name, shape in names.items() if name[4:] not in ("data", "softmax_label")
    }
    arrays["aux:bn_data_moving_mean"][:] = 120
    arrays["arg:fc1_bias"][281] = 3
    (tmp_path / "net-symbol.json").write_bytes(graph.read_bytes())
    mx.nd.save(str(tmp_path / "net-0007.params"), arrays)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    status, out, err = predict("--img", tmp_path / "photo.png", net=("--prefix", tmp_path / "net", "--epoch", 7))
    assert status == 0 and out.startswith("top-1: n02123045 tabby")  # class 281 of predict/synset.txt
    assert "normalised" not in err


@pytest.mark.parametrize(
    "size, message",
    [((1, 1), "1x1 pixels, too narrow"), ((20_000, 60), "too narrow for its crop"), ((20_000, 1000), "")],
)
def test_extreme_sizes(predict, photo, tmp_path, size, message):
    cv2.imwrite(str(tmp_path / "photo.png"), cv2.resize(photo, size))
    status, out, err = predict("--img", tmp_path / "photo.png", "--image-shape", "3,224,224")
    assert (status, out == "") == ((2, True) if message else (0, False))
    assert message in err and err.count("\n") == bool(message)


def test_mxnet_starts_without_what_it_has_no_use_for():
    code = (
        "from mxnet_resnet.engines.mxnet import compat; compat.import_mxnet_quickly(); import sys; import mxnet;"
        "assert not {'sklearn', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules);"
        "from mxnet_resnet.use import chosen, gradcam, predict, reading;"
        "from mxnet_resnet.plot import answers, drawing;"
        "from mxnet_resnet.engines.mxnet import predictor;"
        "assert not {'sklearn', 'scipy', 'pandas', 'matplotlib', 'torch'} & set(sys.modules);"
        "import sklearn.base"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)


def test_a_reader_that_has_gone_is_no_error(capfd, monkeypatch):
    code = "from mxnet_resnet.base.errors import run; run(lambda: [print(i, flush=True) for i in range(99999)] and 0)"
    line = f'"{sys.executable}" -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0\n141\n", "")
    assert errors.report(BrokenPipeError()) == 2  # of another pipe


@pytest.mark.parametrize("form", ["text", "csv", "jsonl"])
def test_names_of_files_may_be_any_bytes(trained, digits, tmp_path, form):
    """In a process of its own, whose streams are strict as in most locales."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes((digits / "val/0021-1.png").read_bytes())
    command = [sys.executable, "predict/predict.py", "--prefix", trained / "model/net", "--epoch", "3"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ended = subprocess.run(
        [*command, "--img", "-", "--format", form],
        input=name + b"\n",
        capture_output=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=100,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    if form == "jsonl":
        assert json.loads(ended.stdout)["image"].encode("utf-8", "surrogateescape") == name
    else:
        assert name in ended.stdout


def test_nothing_on_standard_input_is_told(predict, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    status, out, err = predict("--img", "-")
    assert (status, out) == (2, "") and "no name of an image on standard input" in err


def test_a_wrong_line_of_a_list_is_passed_over(predict, digits, tmp_path):
    (tmp_path / "a.lst").write_text(f"0\t1\t{digits}/val/0021-1.png\nnonsense\n2\t8\t{digits}/val/0028-8.png\n")
    status, out, err = predict("--img", tmp_path / "a.lst", "--format", "csv", "--topk", "1")
    assert status == 1 and len(out.splitlines()) == 3 and "a.lst, line 2" in err


def test_a_glob_finds_each_image_once(predict, digits, tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.png"):
        (tmp_path / name).write_bytes((digits / "val/0021-1.png").read_bytes())
    status, out, _ = predict("--img", f"{tmp_path}/**", "--format", "csv", "--topk", "1")
    assert status == 0 and len(out.splitlines()) == 3
