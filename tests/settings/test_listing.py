"""The lists of recipes and networks."""

from __future__ import annotations

import pytest

from mxnet_resnet.plans import architecture
from mxnet_resnet.settings import flags, listing, recipes


@pytest.mark.parametrize("flag, expected", [("--list-recipes", "cifar10-fast"), ("--list-networks", "resnet50_v2")])
def test_a_list_is_printed_in_place_of_a_training(command, capsys, flag, expected):
    status, out, err = command(capsys, "train_resnet.py", "--data-type", "digits", flag)
    assert (status, err) == (0, "") and any(line.split()[0] == expected for line in out.splitlines())


def test_every_recipe_and_net_has_a_line():
    names = [line.split()[0] for line in listing.list_recipes().splitlines()]
    for name in names:
        assert recipes.load(name)
    assert "24.39% top-1" in next(line for line in listing.list_recipes().splitlines() if "imagenet-resnet50 " in line)
    assert [line.split()[0] for line in listing.list_networks().splitlines()] == [*architecture.MODELS]
    assert "list_recipes" not in vars(flags.parse({}))


def test_a_net_is_told_by_what_it_is_made_of():
    lines = dict(line.split(maxsplit=1) for line in listing.list_networks().splitlines())
    assert lines["preact_resnet20"].startswith("pre-activation, 3, 3, 3 basic units, for small images")
    assert lines["wide_resnet28_10"].startswith("post-activation, 4, 4, 4 basic units, width 10, for small images")
