"""predict/evaluate.py and train_resnet.py --eval-only: errors that are right, on each record once."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mxnet_resnet import engines
from mxnet_resnet.commands.train import measure
from mxnet_resnet.engines.mxnet import compat, predictor
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.settings.run import parse
from mxnet_resnet.use import evaluate as evaluate_module
from mxnet_resnet.use.evaluate import Result
from tests.helpers.runs import train_arguments

GLUONCV = ("--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010")
TORCH = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")


@pytest.fixture
def evaluate(command, capsys, trained, digits):
    def run(*arguments, net=("--prefix", trained / "model/net", "--epoch", 3), data=digits / "digits_val.rec"):
        return command(capsys, "predict/evaluate.py", "--data", data, *net, *arguments)

    return run


def logged_error(trained) -> float:
    """The top-1 error in percent of the last epoch, as training measured it."""
    text = (trained / "log/net/train.log").read_text()
    return 100 * (1 - float(re.findall(r"Validation-accuracy=([\d.]+)", text)[-1]))


def error(out: str) -> float:
    return float(re.search(r"top-1 error ([\d.]+)%", out)[1])


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_the_error_is_that_of_training_whatever_the_batch(evaluate, trained, batch_size):
    status, out, err = evaluate("--batch-size", batch_size)
    assert (status, err) == (0, "") and out.endswith(" of 360 records wrong\n")
    assert error(out) == pytest.approx(logged_error(trained), abs=0.006)


def test_train_resnet_evaluates_the_latest_or_a_named_epoch(command, capsys, evaluate, trained, digits):
    before = sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*"))
    arguments = [*train_arguments(digits, trained), "--eval-only"]
    status, latest, err = command(capsys, "train_resnet.py", *arguments)
    assert err.count("net-0003.params, the latest that is there: --model-load-epoch names another") == 1
    assert status == 0 and error(latest) == pytest.approx(logged_error(trained), abs=0.006)
    status, first, _ = command(capsys, "train_resnet.py", *arguments, "--model-load-epoch", 1)
    assert status == 0 and first == evaluate(net=("--prefix", trained / "model/net", "--epoch", 1))[1] != latest
    assert sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*")) == before
    status, _, err = command(capsys, "train_resnet.py", *arguments, "--model-load-epoch", 9)
    assert status == 2 and "the epochs there are 1, 2, 3" in err
    status, _, err = command(capsys, "train_resnet.py", *arguments, "--dtype", "float16")
    assert status == 2 and "--dtype float16 needs a GPU" in err
    status, _, err = command(capsys, "train_resnet.py", *arguments, "--retrain", "--model-load-epoch", 1)
    assert status == 2 and "--eval-only trains nothing" in err


@pytest.mark.skipif(not compat.has_bfloat16(), reason="this CPU has no AVX512-BF16")
def test_train_resnet_evaluates_in_bfloat16(trained, digits, monkeypatch):
    computed = []
    monkeypatch.setattr(predictor, "Executor", lambda symbol, *_: computed.append(symbol))
    monkeypatch.setattr(evaluate_module, "evaluate_records", lambda *_, **more: None)
    measure(parse([*train_arguments(digits, trained), "--eval-only", "--dtype", "bfloat16"]), engines.choose())
    assert "amp_cast" in computed[0].tojson(remove_amp_cast=False)
    types = computed[0].infer_type(data="float32")
    assert types[1] == [np.float32]


def test_classes_and_confusions_add_up(evaluate, digits, tmp_path):
    more = ("--synset", digits / "synset.txt", "--json", tmp_path / "deep/found.json")
    status, out, _ = evaluate("--per-class", "--confusion", 3, *more)
    found = json.loads((tmp_path / "deep/found.json").read_text())
    rows = re.findall(r"^ *([\d.]+) +(\d+)  digit (\d)$", out, re.MULTILINE)
    assert status == 0 and [int(label) for _, _, label in rows] == list(range(10))
    assert sum(int(count) for _, count, _ in rows) == found["records"] == 360
    wrong = sum(float(share) * int(count) / 100 for share, count, _ in rows)
    assert round(wrong) == found["wrong"] == round(found["top-1 error, %"] * 3.6)
    assert len(re.findall(r"digit \d taken for digit \d", out)) == len(found["confusions"]) == 3
    counts = [pair["records"] for pair in found["confusions"]]
    assert counts == sorted(counts, reverse=True) and counts[0] > 0


def test_results_are_counted_right():
    found = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 4, 3, 2, 1], [2, 0, 1, 3, 4], [2, 1, 0, 3, 4]])
    result = Result(np.array([0, 0, 0, 2, 1]), found, 6)
    assert (result.top1, result.top5) == (60, 20)
    assert [(label, count, round(share, 1)) for label, count, share in result.per_class()] == [
        (0, 3, 66.7),
        (1, 1, 100),
        (2, 1, 0),
    ]
    assert result.confusions(9) == [(0, 1, 1), (0, 5, 1), (1, 2, 1)]


def test_other_crops_and_sizes_are_evaluated(evaluate):
    for more in (["--crop", "ten"], ["--image-shape", "3,40,40"], ["--crop", "squash"]):
        status, out, _ = evaluate(*more)
        assert status == 0 and error(out) < 60
    assert error(evaluate("--image-shape", "3,40,40", "--crop", "ten")[1]) > 0


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:5000], "the (file|record)"),
        (lambda data: data[:32] + b"not a PNG" + data[41:], "record 0, byte 0: the image does not decode"),
        (lambda data: data[:12] + np.float32(10).tobytes() + data[16:], "labels from 0 to 10, and a net of 10"),
    ],
)
def test_bad_records_are_told(evaluate, digits, tmp_path, damage, message):
    (tmp_path / "bad.rec").write_bytes(damage((digits / "digits_val.rec").read_bytes()))
    status, out, err = evaluate("--json", tmp_path / "x.json", data=tmp_path / "bad.rec")
    assert (status, out) == (2, "") and re.fullmatch(rf"error: .*bad\.rec.*{message}.*\n", err), err
    assert not (tmp_path / "x.json").exists()


@pytest.fixture(scope="module")
def cifar10(shared, tmp_path_factory):
    import runpy
    import sys

    from tests.helpers import REPOSITORY

    out = tmp_path_factory.mktemp("cifar10")
    source = tmp_path_factory.mktemp("source") / "cifar-10-batches-bin"
    source.mkdir()
    for path in (shared / "cifar10/cifar-10-batches-bin").iterdir():
        (source / path.name).symlink_to(path)
    test = (source / "test_batch.bin").read_bytes()
    for number in range(1, 6):  # the tool wants them, and nothing is trained here
        (source / f"data_batch_{number}.bin").write_bytes(test)
    before = sys.argv
    sys.argv = ["cifar2rec.py", "--dataset", "cifar10", "--source", str(source), "--out", str(out)]
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(REPOSITORY / "tools/cifar2rec.py"), run_name="__main__")
    finally:
        sys.argv = before
    assert not ended.value.code
    return out / "cifar10_val.rec"


@pytest.mark.slow
@pytest.mark.parametrize(
    "file, normalisation, expected",
    [("cifar_resnet20_v1", GLUONCV, 7.12), ("cifar_resnet20_v2", GLUONCV, 7.30), ("resnet20-12fca82f.th", TORCH, 8.27)],
)
def test_published_checkpoints_have_their_published_errors(evaluate, shared, cifar10, file, normalisation, expected):
    path = shared / "checkpoints" / file
    if path.suffix == ".th":
        pytest.importorskip("torch")
    net = ("--params" if path.suffix == ".th" else "--prefix", path)
    status, out, _ = evaluate(*normalisation, net=net, data=cifar10)
    assert status == 0 and out.endswith(" of 10,000 records wrong\n")
    assert error(out) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("fc1_weight", 3e38, r"the scores of .* are not finite numbers: .*"),
        # MXNet's ReLU makes zeros of nan: the scores are finite.
        (
            "stage2_unit1_conv1_weight",
            np.nan,
            r".* has values in arg:stage2_unit1_conv1_weight that are not finite: .*",
        ),
        ("fc1_bias", np.inf, r".* has values in arg:fc1_bias that are not finite: .*"),
    ],
)
def test_weights_and_scores_that_are_not_finite_are_an_error(
    trained, digits, tmp_path, command, capsys, name, value, told
):
    parameters, statistics = checkpoint.load_params(f"{trained}/model/net", 3)
    parameters[name] = np.full_like(parameters[name], value)
    graph = checkpoint.graph_path(f"{trained}/model/net").read_text()
    checkpoint.save(str(tmp_path / "net"), 3, graph, parameters, statistics)
    flags = ("--prefix", tmp_path / "net", "--epoch", "3")
    records = digits / "digits_val.rec"
    for script, more in (("predict/evaluate.py", ("--data", records)), ("predict/predict.py", ("--img", records))):
        status, out, err = command(capsys, script, *flags, *more)
        assert (status, out) == (2, "")
        assert re.fullmatch(rf"error: {told}\n", err), err
