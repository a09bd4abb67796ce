from pathlib import Path

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import entries, ledger
from mxnet_resnet.settings import recipes
from mxnet_resnet.settings.run import parse
from tests.helpers.runs import model_of

RECIPE = """\
# python train_resnet.py --recipe mine
data-type: cifar10
depth: 20
batch-size: 32
lr: 1e-2
lr-steps: [3, 6]
scale-lr: true
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_gives_flags_and_those_that_are_given_win(recipe):
    parsed = parse(["--recipe", str(recipe)])
    assert (parsed.net.depth, parsed.rate.lr, parsed.rate.epochs, parsed.rate.scaled) == (20, 0.01, (3, 6), True)
    assert parsed.saving.prefix == "model/mine"
    other = parse(f"--recipe {recipe} --lr 0.5 --no-scale-lr --network resnet56 --lr-iterations 700".split())
    assert (other.net.depth, other.net.network, other.rate.lr, other.rate.scaled) == (None, "resnet56", 0.5, False)
    assert (other.rate.epochs, other.rate.iterations) == ((), (700,))


def test_a_given_schedule_wins_over_that_of_a_recipe(recipe):
    cosine = parse(f"--recipe {recipe} --lr-schedule cosine".split())
    assert (cosine.rate.way, "lr-steps" in cosine.start.arguments) == ("cosine", False)
    recipe.write_text("data-type: cifar10\nlr-schedule: cosine\nmemonger-budget: 100\n")
    steps = parse(f"--recipe {recipe} --lr-steps 7 --no-memonger".split())
    assert (steps.rate.way, steps.rate.epochs, steps.devices.memonger) == ("steps", (7,), False)


def test_a_resumed_run_remembers_the_batch_of_its_recipe(recipe, tmp_path):
    prefix = f"{tmp_path}/net"
    begun = parse(["--recipe", str(recipe), "--batch-size", "64", "--model-prefix", prefix])
    ledger.begin(prefix, entries.Entry("run", arguments=begun.start.arguments), anew=True)
    resumed = parse(["--resume", "--model-prefix", prefix])
    assert (resumed.batch_size, resumed.rate.batch, resumed.net.depth) == (64, 32, 20)


def test_flags_beside_resume_are_those_of_the_run_but_for_its_own(tmp_path):
    prefix = f"{tmp_path}/net"
    begun = parse(["--data-type", "digits", "--depth", "8", "--model-prefix", prefix, "--lr", "0.2"])
    ledger.begin(prefix, entries.Entry("run", arguments=begun.start.arguments), anew=True)
    resumed = parse(["--resume", "--model-prefix", prefix, "--depth", "8"])
    assert (resumed.data.kind, resumed.net.depth, resumed.rate.lr) == ("digits", 8, 0.2)
    assert "lr" in resumed.given and "lr" in begun.given and "resume" not in begun.given


def test_the_batch_of_the_recipe_is_what_a_rate_is_scaled_by(recipe):
    assert parse(["--recipe", str(recipe), "--batch-size", "256"]).rate.batch == 32
    assert parse(["--data-type", "cifar10", "--batch-size", "256"]).rate.batch == 128


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning-rate: 1", "'learning-rate' is no flag that a recipe can have"),
        ("batchsize: 1", "the nearest is batch-size$"),
        ("weather: 1", "'weather' is no flag that a recipe can have$"),
        ("resume: true", "'resume' is no flag that a recipe can have"),
        ("model-prefix: a", "'model-prefix' is no flag"),
        ("eval-only: true", "'eval-only' is no flag"),
        ("lr: 0.1\nepochs: 3\nlr: 0.2", "mine.yaml: the key 'lr' stands there twice"),
        ("lr: fast", r"mine.yaml: argument --lr: 'fast' is not a number"),
        ("- a\n- b", "is not a recipe"),
        ("a: [", "is not YAML"),
        ("", "is not a recipe"),
    ],
)
def test_what_is_no_recipe_is_told(recipe, text, message):
    recipe.write_text(text)
    with pytest.raises(UserError, match=message):
        parse(["--recipe", str(recipe)])


def test_an_unknown_recipe_is_told_with_those_that_are_near():
    with pytest.raises(UserError, match=r"there is no recipe imagenet-resnet51: the nearest are .*imagenet-resnet50"):
        parse(["--recipe", "imagenet-resnet51"])
    with pytest.raises(UserError, match=r"there is no recipe vgg16 \(--list-recipes has those that are\)$"):
        parse(["--recipe", "vgg16"])


@pytest.mark.parametrize("path", sorted(recipes.FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid_and_name_their_command_and_result(path):
    parse(["--recipe", path.stem])
    command, *_ = path.read_text().splitlines()
    assert command.startswith("# python train_resnet.py --recipe " + path.stem)
    assert ("# Published:" in path.read_text()) != (path.stem == "cifar10-fast")


def test_the_fast_recipe_has_the_parameters_that_it_tells():
    fast = parse(["--recipe", "cifar10-fast"])
    parameters = model_of(fast).parameters
    assert parameters <= 3_000_000
    text = (recipes.FOLDER / "cifar10-fast.yaml").read_text()
    assert "# Not published: our own" in text and f" {parameters:,} parameters" in text
