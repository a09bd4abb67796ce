import sys

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.data.batch import Batch
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.plot import logreader
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.settings.run import make, parse
from mxnet_resnet.train import checks, reading
from tests.helpers import runs
from tests.helpers.runs import WELL, begin, train, train_arguments

MXNET = pytest.mark.mxnet


def test_a_run_learns_and_logs(trained):
    run = logreader.read(trained / "log/net/train.log")
    train, validation = run.curve("train"), run.curve("validation")
    assert [epoch for epoch, _ in train] == [epoch for epoch, _ in validation] == [0, 1, 2]
    assert train[2][1] < 25 < 50 < train[0][1]
    assert validation[2][1] < 15
    text = (trained / "log/net/train.log").read_text()
    for needed in (
        "seed=0",
        {"mxnet": "MXNet 1.9.1", "torch": "PyTorch 2"}[runs.ENGINE],
        "1437 training images",
        "360 validation images",
        "Computing on the CPU",
        "depth=8",
    ):
        assert needed in text
    assert "INFO:root:Epoch[0] Batch [10]\tSpeed: " in text


def test_mxnet_loads_the_checkpoint_and_agrees_on_the_error(trained, digits):
    symbol, args, auxs = mx.model.load_checkpoint(str(trained / "model/net"), 3)
    images = mx.io.ImageRecordIter(
        path_imgrec=str(digits / "digits_val.rec"), data_shape=(3, 32, 32), batch_size=60, verbose=False
    )
    module = mx.mod.Module(symbol)
    module.bind(images.provide_data, images.provide_label, for_training=False)
    module.set_params(args, auxs)
    accuracy = dict(module.score(images, "acc"))["accuracy"]
    logged = logreader.read(trained / "log/net/train.log").epochs[2].validation["top1"]
    assert 100 * (1 - accuracy) == pytest.approx(logged, abs=1e-3)


def test_the_same_seed_gives_the_same_parameters(trained, digits, tmp_path):
    train(train_arguments(digits, tmp_path, *WELL, "--epochs", "1"))
    assert_same(tmp_path / "model/net", trained / "model/net", epoch=1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")
def test_processes_that_load_give_the_same_parameters(trained, digits, tmp_path):
    train(train_arguments(digits, tmp_path, *WELL, "--epochs", "1", "--data-workers", "2"))
    assert_same(tmp_path / "model/net", trained / "model/net", epoch=1)
    assert "2 processes load the images" in (tmp_path / "log/net/train.log").read_text()


def test_memonger_gives_the_same_parameters_in_less_memory(trained, digits, tmp_path):
    train(train_arguments(digits, tmp_path, *WELL, "--epochs", "1", "--memonger"))
    assert_same(tmp_path / "model/net", trained / "model/net", epoch=1)
    assert "Planned activation memory" in (tmp_path / "log/net/train.log").read_text()


@pytest.mark.parametrize("network", ["resnet20 --shortcut A", "preact_wide_resnet16_8 --width 1 --drop-rate 0.2"])
def test_other_networks_train(digits, tmp_path, network):
    arguments = train_arguments(digits, tmp_path, "--epochs", "2", "--network", *network.split())
    train(arguments)
    (_, first), (_, second) = logreader.read(tmp_path / "log/net/train.log").curve("train")
    assert second < min(75, first - 10)


def assert_same(prefix, other, epoch):
    for found, expected in zip(checkpoint.load_params(str(prefix), epoch), checkpoint.load_params(str(other), epoch)):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_retrain_goes_on_from_the_checkpoint(trained, digits, tmp_path):
    for path in (trained / "model").iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    more = ("--epochs", "4", "--retrain", "--model-load-epoch", "3", "--lr", "1e-9", "--reset-optimizer")
    train(train_arguments(digits, tmp_path, *more))
    before, _ = checkpoint.load_params(str(tmp_path / "model/net"), 3)
    after, _ = checkpoint.load_params(str(tmp_path / "model/net"), 4)
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=2e-4)
    assert logreader.read(tmp_path / "log/net/train.log").epochs.keys() == {3}


def test_the_augmentation_goes_off_for_the_last_epochs(digits):
    arguments = f"--data-type imagenet --aug-level 3 --data-dir {digits} --aug-off-epoch 95"
    parsed = parse(arguments.split())
    summary = recordio.scan(digits / "digits_val.rec")
    summaries = {digits / name: summary for name in ("train_480_q90.rec", "train_256_q90.rec")}
    group = KVStoreGroup(mx.kvstore.create("local"))
    before, after = (reading.training_records(parsed, summaries, group, epoch) for epoch in (94, 95))
    assert (before.path.name, before.augmentation.max_rotate_angle) == ("train_480_q90.rec", 10)
    assert (after.path.name, after.augmentation) == ("train_256_q90.rec", augment.LEVELS[1])


def test_the_log_tells_how_long_training_waited(trained):
    text = (trained / "log/net/train.log").read_text()
    assert [f"Epoch[{epoch}] Data wait=" in text for epoch in range(3)] == [True] * 3


def test_given_examples_move_the_steps():
    assert checks.count_steps(make(data_type="digits", num_examples=640, batch_size=64), counted=1437, workers=1) == 10
    assert checks.count_steps(make(data_type="digits", batch_size=64), counted=1437, workers=2) == 12


@pytest.mark.parametrize(
    "more, message",
    [
        (["--num-classes", "5"], r"labels from 0 to 9, and a net of 5 classes knows 0 to 4"),
        (["--data-train", "none.rec"], "there is no record file none.rec"),
        (["--batch-size", "2000"], "1437 records, fewer than the 2000 of a step"),
        (["--gpus", "0"], "GPU 0 cannot serve"),
        pytest.param(["--batch-size", "3", "--cpus", "4"], "--batch-size 3 cannot be dealt to 4 devices", marks=MXNET),
        pytest.param(
            ["--batch-size", "6", "--cpus", "4"], "--batch-size 6 cannot be dealt to 4", marks=MXNET
        ),  # 2 2 2 0
        pytest.param(["--dtype", "float16"], "--dtype float16 needs a GPU", marks=MXNET),
        (["--memonger-budget", "1"], "no plan keeps the activations within 1 MB"),
        (["--retrain", "--model-load-epoch", "1"], "there is no checkpoint"),
        (["--network", "resnet164", "--drop-rate", "0.5"], "bottleneck units have no dropout"),
        (["--model-prefix", "/proc/none/net"], "cannot write checkpoints to /proc/none"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(digits, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        train(train_arguments(digits, tmp_path, *more))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_net_is_told(trained, digits, tmp_path):
    arguments = train_arguments(digits, trained, "--depth", "14", "--retrain", "--model-load-epoch", "2")
    with pytest.raises(UserError, match="does not fit the net: it has no stage1_unit2_bn1_gamma"):
        train(arguments)
    arguments = train_arguments(digits, trained, "--num-classes", "12", "--retrain", "--model-load-epoch", "2")
    with pytest.raises(UserError, match=r"fc1_weight has shape \(10, 64\), expected \(12, 64\)"):
        train(arguments)


def test_two_devices_do_the_work_of_one():
    """Both halves of the batch are the same, so that BatchNorm sees the same statistics on each of two devices."""
    settings = make(data_type="digits", depth=8, batch_size=8)
    rng = np.random.default_rng(0)
    half, labels = rng.uniform(0, 255, (4, 3, 32, 32)).astype(np.float32), np.arange(4, dtype=np.float32)
    batch = Batch(np.concatenate([half, half]), np.concatenate([labels, labels]), 8)
    results = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        session = begin(settings, contexts=contexts)
        before = session.snapshot().params["conv0_weight"]
        session.step(batch, 0)
        results.append(session.snapshot().params)
        assert not np.array_equal(results[-1]["conv0_weight"], before)
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_resnet50_takes_a_step_at_224_pixels():
    session = begin(make(batch_size=2))
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 224, 224)).astype(np.float32)
    batch = Batch(images, np.array([3, 7], np.float32), 2)
    before = session.snapshot().params["conv0_weight"]
    first, second = (session.step(batch, number).result().loss for number in range(2))
    assert second < first / 4
    assert not np.array_equal(session.snapshot().params["conv0_weight"], before)
