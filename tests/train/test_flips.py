"""Bits of a run's files changed at random: it goes on from where it stood, or from before, or says what is wrong."""

from __future__ import annotations

import random

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, ledger
from mxnet_resnet.settings.run import parse
from mxnet_resnet.train.setup import planning
from tests.helpers.runs import arguments
from tests.helpers.toy import ToyEngine
from tests.runs.test_ownership import train_toy

RUN = ("--epochs", "2", "--lr", "0.05")
SEED = 0
FLIPS = 60  # of each file


@pytest.mark.slow
def test_no_bit_of_a_run_changed_at_random_loses_it(digits, tmp_path):
    train_toy(digits, tmp_path, *RUN)
    prefix, rng = f"{tmp_path}/model/net", random.Random(SEED)
    weights = checkpoint.digest(*checkpoint.load_params(prefix, 2))
    for path in sorted((tmp_path / "model").iterdir()):
        content = path.read_bytes()
        for bit in rng.sample(range(8 * len(content)), FLIPS):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            found = find_start(digits, tmp_path)
            whole = not path.name.startswith("net-0002.")
            assert found in (("0002",) if whole else ("0002", "0001")), f"seed {SEED}, {path.name}, bit {bit}: {found}"
            assert read_latest(prefix) in (weights, None if not whole else weights), f"{path.name}, bit {bit}"
        path.write_bytes(content)
    assert ledger.find_whole(prefix) == "0002"


def find_start(digits, folder) -> str:
    settings = parse(arguments(digits, folder, "--resume", *RUN))
    with planning([settings], ToyEngine()) as (plans, _):
        return plans[0].begin.entry.name if not plans[0].begin.anew else "anew"


def read_latest(prefix: str) -> str | None:
    """What the newest weights are; None where they are refused."""
    try:
        return checkpoint.digest(*checkpoint.read_params(checkpoint.find_latest(prefix)))
    except UserError:
        return None
