"""What the servers of a job take, and from whom."""

from __future__ import annotations

import json
import pickle
import random

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import compat, secret, server, serveroptimizer
from mxnet_resnet.engines.mxnet.serveroptimizer import Rates, build, describe, tabulate
from mxnet_resnet.settings.schedule import Schedule
from tests.helpers.members import TRAIN_FOR_EVER, member
from tests.helpers.stranger import Bomb, find_ports, send_command

NAMES = {4: "conv_weight", 5: "bn_gamma", 6: "bn_beta", 7: "fc_bias"}
TRAIN_A_WHILE = TRAIN_FOR_EVER.replace("while True:", "while not os.path.exists({end!r}):")


@pytest.fixture
def optimizer():
    """One that differs from the defaults wherever it can."""
    made = mx.optimizer.create(
        "servernag",
        param_idx2name=NAMES,
        momentum=0.1 + 0.2,
        wd=1e-4 / 3,
        rescale_grad=1 / 96,
        begin_num_update=10,
        lr_scheduler=Rates(tabulate(Schedule(0.1, "cosine", end=40, warmup_steps=3, warmup_mode="linear"), 5, 40), 2),
    )
    made.set_wd_mult({"bn_beta": 1.0, "fc_bias": 0.5})
    made.set_lr_mult({"conv_weight": 0.25})
    return made


@pytest.fixture
def description(optimizer):
    return json.loads(describe(optimizer))


def train(optimizer, steps=60):
    """The weights and momentum after some updates."""
    updater, random = mx.optimizer.get_updater(optimizer), np.random.RandomState(0)
    weights = {index: mx.nd.array(random.randn(5)) for index in NAMES}
    for _ in range(steps):
        for index, weight in weights.items():
            updater(index, mx.nd.array(random.randn(5)), weight)
    return np.array([[weights[i].asnumpy(), updater.states[i].asnumpy()] for i in NAMES])


@pytest.mark.parametrize("kind", ["dist_sync", "dist_async"])
@pytest.mark.parametrize("ours", ["", "of this job"])
def test_a_stranger_can_run_and_change_nothing_in_a_server(job, tmp_path, monkeypatch, kind, ours):
    script = member(tmp_path, TRAIN_A_WHILE.format(end=str(tmp_path / "end")), kind)
    processes = job(script, **{secret.SECRET: ours})
    for worker in processes["worker"]:
        worker.wait_for("step", 5)
    process = processes["server"][0]
    (address,) = find_ports(process.popen.pid)
    assert address[0] == "127.0.0.1"
    monkeypatch.setenv(secret.SECRET, "" if kind == "dist_sync" else "a guess")
    harmful = json.dumps(["servernag", {"$": "nonsense"}])
    bomb = pickle.dumps(Bomb(tmp_path / "taken over"), 0)
    messages = [bomb, secret.seal(harmful).encode(), secret.seal(bomb.decode()).encode(), b"\xff \xfe", b"", b" "]
    for number, message in enumerate(messages, 1):
        send_command(address, server.CONTROLLER, message)
        process.wait_for("refused command 0", number, 10)
    steps = processes["worker"][0].text.count("step")
    processes["worker"][0].wait_for("step", steps + 5)
    (tmp_path / "end").touch()
    assert {other.wait(60) for group in processes.values() for other in group} == {0}, process.text
    assert not (tmp_path / "taken over").exists()
    reason = (
        "the servers of dist_sync take none" if kind == "dist_sync" else "it does not come from a worker of this job"
    )
    assert process.text.count(reason) == len(messages)


def test_a_described_optimizer_computes_the_same(optimizer):
    built = build(describe(optimizer))
    assert describe(built) == describe(optimizer)
    expected = train(optimizer)
    assert (train(built) == expected).all() and np.isfinite(expected).all()
    given = {"param_idx2name": NAMES, "learning_rate": 0.3, "momentum": 0.5}
    described = build(describe(mx.optimizer.create("serversgd", **given)))
    assert (train(described) == train(mx.optimizer.create("sgd", **given))).all()


def test_a_table_of_rates_is_the_schedule():
    schedule = Schedule(0.1, milestones=(7, 9), warmup_steps=3, warmup_lr=0.01)
    changes = tabulate(schedule, 2, 20)
    assert [step for step, _ in changes] == [2, 3, 7, 9]
    for workers in (1, 3):
        rates = Rates(changes, workers)
        found = [rates(update) for update in range(2 * workers + 1, 20 * workers + 1)]
        assert found == [schedule(step) for step in range(2, 20) for _ in range(workers)]
        assert rates(0) == schedule(2) and rates(10**6) == schedule(19)
    assert tabulate(schedule, 20, 20) == [(20, schedule(20))]  # of a run that is done


@pytest.mark.parametrize(
    "field, value",
    [
        ("kind", "adam"),
        ("kind", ["nag"]),
        ("kind", None),
        ("momentum", 1.5),
        ("momentum", -0.1),
        ("momentum", True),
        ("momentum", "0.9"),
        ("weight_decay", float("nan")),
        ("weight_decay", float("inf")),
        ("rescale", 10**400),
        ("rescale", [1]),
        ("first_update", -1),
        ("first_update", 2**31),
        ("first_update", 1.0),
        ("updates_per_step", 0),
        ("rates", []),
        ("rates", [[0, 0.1, 2]]),
        ("rates", [[0.5, 0.1]]),
        ("rates", [[0, -0.1]]),
        ("rates", {}),
        ("rates", [[4, 0.1], [2, 0.1]]),
        ("rates", [[2, 0.1], [2, 0.2]]),
        ("rates", [None]),
        ("rates", 3),
        ("parameters", [["0", "a", 1, 1]]),
        ("parameters", [[0, 7, 1, 1]]),
        ("parameters", [[0, "a", 1, None]]),
        ("parameters", [[[], {}, [], {}]]),
        ("parameters", {"0": "a"}),
    ],
)
def test_what_is_no_description_is_refused(description, field, value):
    with pytest.raises(ValueError, match=f"the description's {field} are not what this program sends"):
        build(json.dumps({**description, field: value}))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "{", "null", "[" * 100_000, '{"kind": "nag"}', "9" * 5000, "\\"])
def test_what_is_no_object_with_the_fields_is_refused(text):
    with pytest.raises(ValueError):
        build(text)


@pytest.mark.slow
def test_whatever_is_sent_is_refused_or_an_optimizer(description):
    seed = random.randrange(2**32)
    print("seed", seed)
    draw, text = random.Random(seed), json.dumps(description)
    parts = ["", "9", "-", '"', "[", "]", "{", "}", "e", ".", "null", ",", "1e999", "NaN", "true", "\\u0000", "0" * 20]
    built = 0
    for _ in range(5000):
        changed = list(text)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            changed[at : at + draw.randint(0, 3)] = draw.choice(parts)
        try:
            describe(build("".join(changed)))
            built += 1
        except ValueError:
            continue
        except Exception as error:
            pytest.fail(f"{error!r} of seed {seed}: {''.join(changed)}")
    assert 0 < built < 2500


def test_fields_that_nobody_knows_are_refused(description):
    with pytest.raises(ValueError, match="the description's fields"):
        build(json.dumps({**description, "clip_gradient": 1}))


@pytest.mark.parametrize(
    "given", [{"clip_gradient": 1}, {"multi_precision": True}, {"lr_scheduler": mx.lr_scheduler.FactorScheduler(5)}]
)
def test_nothing_of_an_optimizer_is_dropped_in_silence(given):
    with pytest.raises(ValueError):
        describe(mx.optimizer.create("servernag", **given))
    with pytest.raises(ValueError, match="cannot be told"):
        describe(mx.optimizer.create("adam"))


def test_a_schedule_too_long_for_a_message_is_told(monkeypatch, optimizer):
    monkeypatch.setattr(serveroptimizer, "MOST_TEXT", 300)
    with pytest.raises(UserError, match="cannot be told of 35 learning rates: take --lr-schedule steps"):
        describe(optimizer)


def test_only_the_secret_of_the_job_opens(monkeypatch):
    monkeypatch.setenv(secret.SECRET, "ours")
    sealed = secret.seal("words").encode()
    assert secret.unseal(sealed) == "words" and b"ours" not in sealed
    for message in (b"", b"words", b" words", sealed[1:], sealed + b" ", sealed.upper(), b"\xff\xff words"):
        with pytest.raises(ValueError, match="does not come from a worker"):
            secret.unseal(message)
    monkeypatch.setenv(secret.SECRET, "theirs")
    with pytest.raises(ValueError, match="does not come from a worker"):
        secret.unseal(sealed)


@pytest.mark.parametrize("role", ["server", "scheduler"])
def test_a_command_of_another_kind_never_becomes_mxnets_own_server(monkeypatch, role):
    monkeypatch.setenv("DMLC_ROLE", role)
    with pytest.raises(UserError, match="takes no part in a job"):
        compat.load()


def test_a_worker_that_does_not_know_the_secret_is_told(job, tmp_path):
    """The servers have no optimizer then, and the job ends."""
    other = "if os.environ['DMLC_ROLE'] == 'worker':\n    os.environ['RESNET_JOB_SECRET'] = 'other'\n"
    process = job(member(tmp_path, TRAIN_FOR_EVER, "dist_async", other), RESNET_JOB_SECRET="ours")["server"][0]
    assert process.wait(60) == 2
    refused, ended = process.text.splitlines()
    assert refused.startswith("warning: server 0 refused command 0 (")
    assert ended.startswith("error: no optimizer came with the secret of this job")
