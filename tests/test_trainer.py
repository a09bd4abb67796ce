import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import augment, recordio
from mxnet_resnet.engines.mxnet import optimizer
from mxnet_resnet.engines.mxnet.group import Peers
from mxnet_resnet.runs import checkpoint, logbook
from mxnet_resnet.settings import options, schedule
from mxnet_resnet.train import loop, trainer
from tests.helpers.runs import WELL, train_arguments


def test_a_run_learns_and_logs(trained):
    run = logreader.read(trained / "log/net/train.log")
    train, validation = run.curve("train"), run.curve("validation")
    assert [epoch for epoch, _ in train] == [epoch for epoch, _ in validation] == [0, 1, 2]
    assert train[2][1] < 25 < 50 < train[0][1]
    assert validation[2][1] < 15
    text = (trained / "log/net/train.log").read_text()
    for needed in (
        "seed=0",
        "MXNet 1.9.1",
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
    trainer.train(options.parse(train_arguments(digits, tmp_path, *WELL, "--epochs", "1")))
    assert_same(tmp_path / "model/net", trained / "model/net", epoch=1)


def test_memonger_gives_the_same_parameters_in_less_memory(trained, digits, tmp_path):
    trainer.train(options.parse(train_arguments(digits, tmp_path, *WELL, "--epochs", "1", "--memonger")))
    assert_same(tmp_path / "model/net", trained / "model/net", epoch=1)
    assert "Planned activation memory" in (tmp_path / "log/net/train.log").read_text()


@pytest.mark.parametrize("network", ["resnet20 --shortcut A", "preact_wide_resnet16_8 --width 1 --drop-rate 0.2"])
def test_other_networks_train(digits, tmp_path, network):
    arguments = train_arguments(digits, tmp_path, "--epochs", "2", "--network", *network.split())
    trainer.train(options.parse(arguments))
    (_, first), (_, second) = logreader.read(tmp_path / "log/net/train.log").curve("train")
    assert second < min(75, first - 10)


def assert_same(prefix, other, epoch):
    for found, expected in zip(checkpoint.load_params(str(prefix), epoch), checkpoint.load_params(str(other), epoch)):
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name].asnumpy(), array.asnumpy(), err_msg=name)


def test_retrain_goes_on_from_the_checkpoint(trained, digits, tmp_path):
    for path in (trained / "model").iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    more = ("--epochs", "4", "--retrain", "--model-load-epoch", "3", "--lr", "1e-9", "--reset-optimizer")
    trainer.train(options.parse(train_arguments(digits, tmp_path, *more)))
    before, _ = checkpoint.load_params(str(tmp_path / "model/net"), 3)
    after, _ = checkpoint.load_params(str(tmp_path / "model/net"), 4)
    for name, array in before.items():
        np.testing.assert_allclose(after[name].asnumpy(), array.asnumpy(), atol=2e-4)
    assert logreader.read(tmp_path / "log/net/train.log").epochs.keys() == {3}


def test_the_augmentation_goes_off_for_the_last_epochs(digits):
    arguments = f"--data-type imagenet --aug-level 3 --data-dir {digits} --aug-off-epoch 95"
    parsed = options.parse(arguments.split())
    summary = recordio.scan(digits / "digits_val.rec")
    summaries = {digits / name: summary for name in ("train_480_q90.rec", "train_256_q90.rec")}
    peers = Peers(mx.kvstore.create("local"))
    before, after = (loop.training_records(parsed, summaries, peers, epoch) for epoch in (94, 95))
    assert (before.path.name, before.augmentation.max_rotate_angle) == ("train_480_q90.rec", 10)
    assert (after.path.name, after.augmentation) == ("train_256_q90.rec", augment.LEVELS[1])


def test_the_log_tells_how_long_training_waited(trained):
    text = (trained / "log/net/train.log").read_text()
    assert [f"Epoch[{epoch}] Data wait=" in text for epoch in range(3)] == [True] * 3


def test_given_examples_move_the_steps():
    parsed = options.parse("--data-type digits --num-examples 640 --batch-size 64 --lr-steps 2".split())
    assert trainer._steps_per_epoch(parsed, counted=1437, workers=1) == 10
    parsed.num_examples = None
    assert trainer._steps_per_epoch(parsed, counted=1437, workers=2) == 12


@pytest.mark.parametrize(
    "more, message",
    [
        (["--num-classes", "5"], r"labels from 0 to 9, and a net of 5 classes knows 0 to 4"),
        (["--data-train", "none.rec"], "there is no record file none.rec"),
        (["--batch-size", "2000"], "1437 records, fewer than --batch-size 2000"),
        (["--gpus", "0"], "GPU 0 cannot serve"),
        (["--batch-size", "3", "--cpus", "4"], "--batch-size 3 cannot be dealt to 4 devices: take a multiple of 4"),
        (["--batch-size", "6", "--cpus", "4"], "--batch-size 6 cannot be dealt to 4 devices"),  # MXNet deals 2, 2, 2, 0
        (["--dtype", "float16"], "--dtype float16 needs a GPU"),
        (["--memonger-budget", "1"], "no plan keeps the activations within 1 MB"),
        (["--retrain", "--model-load-epoch", "1"], "there is no checkpoint"),
        (["--network", "resnet164", "--drop-rate", "0.5"], "bottleneck units have no dropout"),
        (["--model-prefix", "/proc/none/net"], "cannot write checkpoints to /proc/none"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(digits, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        trainer.train(options.parse(train_arguments(digits, tmp_path, *more)))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_net_is_told(trained, digits, tmp_path):
    arguments = train_arguments(digits, trained, "--depth", "14", "--retrain", "--model-load-epoch", "2")
    with pytest.raises(UserError, match="does not fit the net: it has no stage1_unit2_bn1_gamma"):
        trainer.train(options.parse(arguments))
    arguments = train_arguments(digits, trained, "--num-classes", "12", "--retrain", "--model-load-epoch", "2")
    with pytest.raises(UserError, match=r"fc1_weight has shape \(10, 64\), expected \(12, 64\)"):
        trainer.train(options.parse(arguments))


def test_two_devices_do_the_work_of_one():
    """Both halves of the batch are the same, so that BatchNorm sees the same statistics on each of two devices."""
    parsed = options.parse(["--data-type", "digits", "--depth", "8", "--batch-size", "8"])
    half, labels = mx.nd.random.uniform(0, 255, (4, 3, 32, 32)), mx.nd.arange(4)
    batch = mx.io.DataBatch([mx.nd.concat(half, half, dim=0)], [mx.nd.concat(labels, labels, dim=0)])
    results = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        peers = Peers(mx.kvstore.create("device"))
        module = trainer.bind(parsed, trainer.training_graph(parsed, trainer.build_net(parsed), contexts), contexts)
        optimizer.install(module, parsed, schedule.Schedule(0.1), peers, step=0)
        module.forward_backward(batch)
        module.update()
        results.append(module.get_params()[0])
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name].asnumpy(), array.asnumpy(), rtol=1e-3, atol=1e-5, err_msg=name)


def test_resnet50_takes_a_step_at_224_pixels():
    parsed = options.parse(["--batch-size", "2"])
    module = trainer.bind(parsed, trainer.training_graph(parsed, trainer.build_net(parsed), [mx.cpu()]), [mx.cpu()])
    optimizer.install(module, parsed, schedule.Schedule(0.1), Peers(mx.kvstore.create("device")), step=0)
    images = mx.nd.random.uniform(0, 255, (2, 3, 224, 224))
    batch = mx.io.DataBatch([images], [mx.nd.array([3, 7])])
    before = module.get_params()[0]["conv0_weight"].asnumpy()
    losses = []
    for _ in range(3):
        module.forward_backward(batch)
        probabilities = module.get_outputs()[0].asnumpy()
        losses.append(-np.log(probabilities[[0, 1], [3, 7]]).mean())
        module.update()
    assert losses[-1] < losses[0]
    assert not np.array_equal(module.get_params()[0]["conv0_weight"].asnumpy(), before)
