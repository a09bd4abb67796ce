"""The commands as users type them: their output, and one sentence with status 2 for input that cannot be used."""

import json
import os
import sys

import cv2
import numpy as np
import pytest

from mxnet_resnet.data.transform import crops, evaluation_transform
from mxnet_resnet.engines.mxnet import compat
from tests.helpers.runs import train_arguments


def predict(command, capsys, trained, image, *more):
    prefix = trained / "model/net"
    return command(capsys, "predict/predict.py", "--img", image, "--prefix", prefix, "--epoch", 3, *more)


def test_predict_names_the_digit(command, capsys, trained, digits):
    right = 0
    for image in sorted((digits / "val").iterdir())[:20]:
        status, out, _ = predict(command, capsys, trained, image, "--synset", digits / "synset.txt")
        assert status == 0
        top1, top5 = out.splitlines()
        assert top1.startswith("top-1: digit ") and top5.count("%") == 5
        right += f"digit {image.stem[-1]} " in top1
    assert right >= 15


def test_devices_on_the_cpu_share_its_cores(command, capsys, monkeypatch):
    threads = []
    monkeypatch.setitem(compat.chosen, "OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(compat, "count_bound_cores", lambda: 8)
    monkeypatch.setattr(compat, "count_busy_cores", lambda: 0)
    checked = "mxnet_resnet.train.setup.check_records"
    monkeypatch.setattr(checked, lambda *_: threads.append(os.environ["OMP_NUM_THREADS"]) or sys.exit(0))
    for devices in (["--gpus", "none"], ["--cpus", "4"]):
        assert command(capsys, "train_resnet.py", "--data-type", "cifar10", *devices)[0] == 0
    assert threads == ["8", "2"]


def test_predict_gives_the_probabilities_of_validation(trained, digits):
    import mxnet as mx

    from mxnet_resnet.data.reader import ValidationRecords
    from mxnet_resnet.data.recordio import scan
    from mxnet_resnet.engines.mxnet.predictor import Predictor
    from mxnet_resnet.use import reading
    from mxnet_resnet.use.classifier import Classifier

    net = reading.read_checkpoint(str(trained / "model/net"), 3)
    lines = [line.split("\t") for line in (digits / "digits_val.lst").read_text().splitlines()[:8]]
    images = [cv2.imread(str(digits / name))[:, :, ::-1] for _, _, name in lines]
    path = digits / "digits_val.rec"
    batch = next(ValidationRecords(path, scan(path), (3, 32, 32), 8).read())
    expected_images = np.stack([evaluation_transform(image, net.image_shape) for image in images])
    np.testing.assert_array_equal(batch.images, expected_images.transpose(0, 3, 1, 2))
    executor = mx.sym.load(f"{trained}/model/net-symbol.json").simple_bind(
        mx.cpu(), grad_req="null", data=(8, 3, 32, 32)
    )
    _, args, auxs = mx.model.load_checkpoint(str(trained / "model/net"), 3)
    executor.copy_params_from(args, auxs)
    expected = executor.forward(is_train=False, data=mx.nd.array(batch.images))[0].asnumpy()
    found = Classifier(Predictor(net, mx.cpu())).probabilities(
        np.stack([crops(image, net.image_shape) for image in images])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_predict_makes_probabilities_of_bare_scores(command, capsys, shared, digits):
    prefix = shared / "checkpoints/cifar_resnet20_v2"
    arguments = ("--img", digits / "val/0021-1.png", "--prefix", prefix, "--epoch", 0)
    status, out, err = command(capsys, "predict/predict.py", *arguments)
    assert status == 0 and "assuming an input of (3, 32, 32)" in err
    shares = [float(part.split("(")[1].split("%")[0]) for part in out.splitlines()[1].split(";")]
    assert 0 < sum(shares) <= 100.01


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.jpg").write_text("this is no image")
    (folder / "empty.jpg").touch()
    (folder / "names.txt").write_text("only\nthree\nnames\n")
    (folder / "empty.log").touch()
    (folder / "empty").mkdir()
    cv2.imwrite(str(folder / "line.png"), np.zeros((1, 60_000, 3), np.uint8))
    return folder


@pytest.mark.parametrize(
    "more, message",
    [
        (["--img", "{bad}/text.jpg"], "text.jpg does not decode: it is not an image"),
        (["--img", "{bad}/empty.jpg"], "empty.jpg does not decode: it has 0 bytes"),
        (["--img", "{bad}/none.jpg"], "cannot read image .*none.jpg: No such file"),
        (["--img", "{bad}/empty"], "empty is a folder without images"),
        (["--epoch", "7"], "the epochs there are 1, 2, 3"),
        (["--prefix", "{bad}/none"], "there is no graph"),
        (["--synset", "{bad}/names.txt"], "names 3 classes, and the net has 10"),
        (["--synset", "{bad}/none.txt"], "cannot read class names"),
        (["--gpu", "0"], "GPU 0 cannot serve"),
        (["--img", "{bad}/line.png", "--image-shape", "3,224,224"], "too narrow"),
    ],
)
def test_predict_tells_bad_input(command, capsys, trained, digits, bad, more, message):
    more = [word.format(bad=bad) for word in more]
    status, out, err = predict(command, capsys, trained, digits / "val/0021-1.png", *more)
    assert_one_sentence(status, out, err, message)


def assert_one_sentence(status, out, err, message):
    import re

    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: .*{message}.*\n", err), err


@pytest.mark.parametrize("graph", ["", "{}", '{"nodes": [], "heads": [], "arg_nodes": []}', "no json"])
def test_predict_tells_a_damaged_graph(command, capsys, trained, digits, tmp_path, graph):
    (tmp_path / "net-symbol.json").write_text(graph)
    result = command(capsys, "predict/predict.py", "--img", digits / "val/0021-1.png", "--prefix", tmp_path / "net")
    assert_one_sentence(*result, "net-symbol.json is (damaged|a graph without)")


@pytest.mark.parametrize("size", [1, 100, 30_000])
def test_predict_tells_a_cut_checkpoint(command, capsys, trained, digits, tmp_path, size):
    (tmp_path / "net-symbol.json").write_bytes((trained / "model/net-symbol.json").read_bytes())
    (tmp_path / "net-0000.params").write_bytes((trained / "model/net-0003.params").read_bytes()[:size])
    image, prefix = digits / "val/0021-1.png", tmp_path / "net"
    result = command(capsys, "predict/predict.py", "--img", image, "--prefix", prefix, "--epoch", 0)
    assert_one_sentence(*result, "net-0000.params is cut short")


def test_train_tells_bad_input(command, capsys, digits, tmp_path):
    arguments = train_arguments(digits, tmp_path, "--depth", "21")
    assert_one_sentence(*command(capsys, "train_resnet.py", *arguments), r"no CIFAR ResNet has depth 21.*6n\+2")
    assert not list(tmp_path.iterdir())


def test_an_image_that_does_not_decode_ends_the_training_in_a_sentence(command, capsys, digits, tmp_path):
    records = bytearray((digits / "digits_train.rec").read_bytes())
    records[8 + 24 : 8 + 24 + 8] = b"not a PNG"[:8]
    (tmp_path / "bad.rec").write_bytes(records)
    arguments = train_arguments(digits, tmp_path / "run", "--data-train", tmp_path / "bad.rec")
    result = command(capsys, "train_resnet.py", *arguments)
    assert_one_sentence(*result, "bad.rec, record 0, byte 0: the image does not decode")
    assert not (tmp_path / "run").exists()


def test_plot_curve_draws_any_number_of_logs(command, capsys, trained, tmp_path):
    log, out = trained / "log/net/train.log", tmp_path / "curve.png"
    status, printed, _ = command(capsys, "log/plot_curve.py", f"--logs={log}", f"--out={out}")
    assert status == 0
    assert printed.startswith("top-1 error ") and printed.endswith(f"%), curve {out}\n")
    one = cv2.imread(str(out))
    status, printed, _ = command(capsys, "log/plot_curve.py", "--logs", ",".join([str(log)] * 12), "--out", out)
    assert status == 0 and printed.count("net: top-1 error") == 12
    assert one.shape[:2] == (825, 1350) and not np.array_equal(one, cv2.imread(str(out)))
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_plot_curve_draws_the_published_logs(command, capsys, shared, tmp_path):
    logs = sorted((shared / "logs").iterdir())
    out = tmp_path / "curve.png"
    status, printed, _ = command(capsys, "log/plot_curve.py", "--logs", ",".join(map(str, logs)), "--out", out)
    assert status == 0 and out.stat().st_size > 20_000
    assert "tornadomeet-resnet-164: top-1 error 4.71% (best 4.68%)" in printed
    assert len(printed.splitlines()) == len(logs) == 6


@pytest.mark.parametrize("out", ["x.foo", "x", "file/x.png"])
def test_plot_curve_tells_where_it_cannot_draw(command, capsys, trained, tmp_path, out):
    (tmp_path / "file").touch()
    arguments = ("--logs", trained / "log/net/train.log", "--out", tmp_path / out)
    assert_one_sentence(*command(capsys, "log/plot_curve.py", *arguments), "cannot (draw|write)")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "logs, message", [("{bad}/empty.log", "has no curve in it"), ("{bad}/none.log", "cannot read log .*none.log")]
)
def test_plot_curve_tells_bad_input(command, capsys, bad, tmp_path, logs, message):
    result = command(capsys, "log/plot_curve.py", "--logs", logs.format(bad=bad), "--out", tmp_path / "x.png")
    assert_one_sentence(*result, message)
    assert not list(tmp_path.iterdir())


def test_show_augment_draws_a_row_a_level(command, capsys, digits, tmp_path):
    image, out = digits / "val/0021-1.png", tmp_path / "augment.png"
    status, _, _ = command(capsys, "tools/show_augment.py", image, "--out", out, "--columns", 3)
    picture = cv2.imread(str(out))
    assert status == 0 and picture.shape == (3 * 230, 3 * 230, 3)
    grey = [np.ptp(picture[row : row + 224, :224], axis=2).max() for row in (0, 230, 460)]
    assert grey[0] == 0  # a grey image stays grey without colour augmentation
    assert_one_sentence(
        *command(capsys, "tools/show_augment.py", image, "--out", tmp_path / "x.jpg"), "has to end in .png"
    )


def test_benchmark_io_compares_the_readers(command, capsys, shared, tmp_path):
    images = shared / "imagenet_samples/images"
    arguments = ("io", "--images", images, "--count", 96, "--runs", 1, "--json", tmp_path / "io.json")
    status, out, _ = command(capsys, "tools/benchmark.py", *arguments)
    assert status == 0 and out.count("| level") == 6
    results = json.loads((tmp_path / "io.json").read_text())
    assert 0 < results["training"]["wait"] < results["training"]["seconds"]
    assert len(results["scaling"]) >= 2
    results = results["io"]
    assert [result["workload"] for result in results][-1] == "CIFAR, later epochs"
    assert all(min(map(min, result["values"].values())) > 0 for result in results)


def test_benchmark_memory_plans_measures_and_draws(command, capsys, tmp_path):
    nets = ("--nets", "8:16", "--curves", "8:16", "--peaks", "8:16", "--depths", "8:16,20:16", "--runs", 1)
    files = ("--json", tmp_path / "memory.json", "--out", tmp_path)
    status, out, _ = command(capsys, "tools/benchmark.py", "memory", *nets, *files)
    assert status == 0
    assert out.count("| ResNet-8, 16 |") == 2
    figures = json.loads((tmp_path / "memory.json").read_text())
    assert figures["nets"][0]["planned"] < figures["nets"][0]["before"]
    assert all(value > 0 for value in figures["peaks"][0]["process"].values())
    assert (tmp_path / "memory-time.png").stat().st_size > (tmp_path / "memory-depth.png").stat().st_size / 4 > 0
    assert_one_sentence(*command(capsys, "tools/benchmark.py", "memory", "--nets", "fifty"), "50:32,164:128")
