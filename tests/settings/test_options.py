import dataclasses
from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.settings.run import parse, parse_runs
from mxnet_resnet.settings.schedule import Schedule
from mxnet_resnet.train.setup import training_spec


def test_defaults_follow_the_data_type():
    imagenet = parse([])
    assert (imagenet.net.depth, imagenet.data.classes, imagenet.batch_size, imagenet.epochs) == (50, 1000, 256, 120)
    assert imagenet.rate.epochs == (30, 60, 90)
    assert imagenet.data.train == Path("data/imagenet/train_480_q90.rec")
    cifar = parse(["--data-type", "cifar100", "--data-dir", "/data"])
    assert (cifar.data.classes, cifar.data.image_shape, cifar.data.pad, cifar.data.mirror) == (
        100,
        (3, 32, 32),
        4,
        True,
    )
    assert cifar.data.val == Path("/data/cifar100_val.rec")


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "the data set (default: imagenet)" in text and "object at" not in text


def test_a_flag_always_wins():
    network = "--data-type cifar10 --depth 20 --num-classes 7 --aug-level 2 --batch-size 32"
    given = parse(f"{network} --epochs 9 --lr-steps 3,6".split())
    assert (given.net.depth, given.data.classes, given.epochs, given.rate.epochs) == (20, 7, 9, (3, 6))
    assert (given.data.aug_level, given.batch_size) == (2, 32)


def test_the_augmentation_level_chooses_the_records():
    assert parse(["--aug-level", "1"]).data.train.name == "train_256_q90.rec"
    assert parse(["--aug-level", "3"]).data.train.name == "train_480_q90.rec"


def test_the_commands_people_have():
    old = (
        "--data-dir data/imagenet --data-type imagenet --depth 50 --batch-size 256 --gpus=0,1,2,3,4,5,6,7 "
        "--model-load-epoch=70 --lr 0.0005 --wd 0.001 --retrain --mom 0.9 --bn-mom 0.9 --workspace 256 "
        "--num-classes 1000 --aug-level 2 --num-examples 1281167 --kv-store device --frequent 50 --memonger"
    )
    parsed = parse(old.split())
    assert (parsed.devices.gpus, parsed.rate.lr, parsed.start.epoch) == (tuple(range(8)), 0.0005, 70)


@pytest.mark.parametrize("side, small", [(32, True), (64, True), (128, False)])
def test_custom_data_get_the_net_for_their_size(side, small):
    custom = f"--data-type custom --data-train a.rec --data-val b.rec --num-classes 3 --image-shape 3,{side},{side}"
    parsed = parse(custom.split())
    assert (parsed.data.small, parsed.data.train, parsed.data.val) == (small, Path("a.rec"), Path("b.rec"))
    assert parsed.net.plan.small_images == small


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--depth 51", "18, 34, 50, 101, 152, 200, 269"),
        ("--data-type custom", "needs --data-train"),
        (
            "--image-shape 1,224,224",
            "has 1 channel, and all images, grey ones too, are read as R, G and B: take 3,224,224",
        ),
        ("--image-shape 3,224", "3,HEIGHT,WIDTH"),
        ("--image-shape 3,100000,100000", "3,HEIGHT,WIDTH"),
        ("--network resnet19", "the nearest are"),
        ("--network resnet18 --depth 18", "--network and --depth say the same in two ways"),
        ("--retrain", "go together"),
        ("--model-prefix runs/", "runs/ is a folder: add a name, as in runs/net"),
        ("--resume --retrain --model-load-epoch 1", "give one of them"),
        ("--memonger-budget 9 --no-memonger", "give one of them"),
        ("--model-load-epoch 3", "go together"),
        ("--retrain --model-load-epoch 120", "nothing to train"),
        ("--lr-steps 60,30", "rising order"),
        ("--data-workers 4 --data-nthreads 2", "give one of them, or --data-workers 0"),
    ],
)
def test_contradictions_are_told(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(arguments.split())


@pytest.mark.parametrize(
    "arguments",
    [
        "--batch-size 0",
        "--gpus a",
        "--gpus=-1",
        "--gpus 0,0",
        "--data-type mnist",
        "--aug-level 4",
        "--lr x",
        "--lr -1",
        "--lr nan",
        "--mom 1",
        "--bn-mom 7",
        "--wd -1",
        "--seed -1",
        "--seed 1099511627776",
        "--kv-store ring",
        "--unknown 1",
    ],
)
def test_what_is_no_value_is_refused_in_a_sentence(arguments):
    with pytest.raises(UserError):
        parse(arguments.split())


def test_retrain_takes_epoch_0_of_published_checkpoints():
    assert parse(["--retrain", "--model-load-epoch", "0"]).start.epoch == 0


@pytest.mark.parametrize("data_type, small", [("imagenet", False), ("cifar10", True)])
def test_a_network_by_name_adapts_to_the_images(data_type, small):
    parsed = parse(["--network", "preact_resnet18", "--data-type", data_type, "--width", "2", "--shortcut", "A"])
    plan = parsed.net.plan
    assert (plan.small_images, plan.width, plan.shortcut, plan.data_norm) == (small, 2, "A", "plain")
    assert parsed.saving.prefix == f"model/preact_resnet18-{data_type}-width-2-shortcut-A"


def test_each_seed_has_the_settings_that_it_has_alone():
    given = ["--data-type", "cifar10", "--depth", "20", "--lr-schedule", "cosine"]
    several = parse_runs([*given, "--seeds", "111,222"])
    assert [run.seed for run in several] == [111, 222] and {run.series for run in several} == {"resnet-cifar10-20"}
    for run in several:
        alone = parse([*given, "--seed", str(run.seed), "--model-prefix", f"model/resnet-cifar10-20-seed{run.seed}"])
        assert dataclasses.replace(run, series=None) == alone


def test_the_seeds_of_a_recipe_are_those_that_were_given(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data-type: cifar10\ndepth: 20\nseed: 5\n")
    several = parse_runs(["--recipe", str(recipe), "--seeds", "7"])
    assert [(run.seed, run.saving.prefix) for run in several] == [(7, "model/mine-seed7")]


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--seeds 1,2 --seed 1", "--seed is that of one run"),
        ("--seeds 1,1", "'1,1' is not a list of different whole numbers from 0 to 2147483647"),
        ("--seeds none", "'none' is not a list"),
        ("--seeds 1,2147483648", "from 0 to 2147483647"),
        ("--seeds 1,2 --kv-store dist_sync", "--seeds are trained by one process"),
        ("--seeds 1,2 --eval-only", "give --model-prefix model/resnet-imagenet-50-seed1 in place of --seeds"),
        ("--seeds 1,2 --model-prefix runs/", "runs/ is a folder"),
        ("--max-minutes 0", "'0' is not a number above 0"),
        ("--max-minutes=-1", "'-1' is not a number above 0"),
        ("--max-minutes nan", "'nan' is not a number above 0"),
        ("--max-minutes nan", "'nan' is not a number"),
        ("--compile maybe", "invalid choice"),
        ("--engine mxnet --compile yes", "--compile yes is PyTorch's, and --engine mxnet is MXNet's"),
        (
            "--kv-store dist_sync --compile max-autotune",
            "is PyTorch's, and --kv-store dist_sync is",
        ),
    ],
)
def test_what_seeds_clock_and_compilation_cannot_be(flags, message):
    with pytest.raises(UserError, match=message):
        parse_runs(flags.split())


def test_compilation_chooses_the_engine_that_can():
    assert [parse(flags.split()).devices.engine for flags in ("", "--compile no", "--compile yes")] == [
        "auto",
        "auto",
        "torch",
    ]
    settings = parse(["--compile", "max-autotune", "--data-type", "digits"])
    spec = training_spec(settings, Schedule(0.1), steps=440)
    assert (spec.compilation, spec.steps) == ("max-autotune", 440)
