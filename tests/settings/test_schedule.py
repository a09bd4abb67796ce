import math

import mxnet as mx
import pytest

from mxnet_resnet.engines.mxnet.optimizer import Scheduler
from mxnet_resnet.engines.mxnet.serveroptimizer import Rates, tabulate
from mxnet_resnet.settings.run import parse
from mxnet_resnet.settings.schedule import Schedule


def rates(arguments: str, steps_per_epoch: int = 10) -> list[float]:
    """The learning rate at the first step of each epoch."""
    parsed = parse(["--data-type", "digits", *arguments.split()])
    rate = parsed.rate.schedule(steps_per_epoch, parsed.batch_size)
    return [rate(steps_per_epoch * epoch) for epoch in range(parsed.start.epoch or 0, parsed.epochs)]


def test_the_learning_rate_drops_after_the_given_epochs():
    assert rates("--epochs 6 --lr-steps 2,4") == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rates("--epochs 4 --lr-steps 2 --lr-factor 0.2 --lr 1") == pytest.approx([1, 1, 0.2, 0.2])
    assert rates("--epochs 3 --lr-steps none") == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (
            Schedule(0.4, milestones=(30, 60, 90), factor=0.1),
            lambda: mx.lr_scheduler.MultiFactorScheduler([30, 60, 90], factor=0.1, base_lr=0.4),
        ),
        (
            Schedule(0.4, milestones=(61, 81), factor=0.2, warmup_steps=20, warmup_lr=0.01),
            lambda: mx.lr_scheduler.MultiFactorScheduler(
                [60, 80], 0.2, 0.4, warmup_steps=20, warmup_begin_lr=0.01, warmup_mode="constant"
            ),
        ),
        (Schedule(0.4, "cosine", end=99), lambda: mx.lr_scheduler.CosineScheduler(99, base_lr=0.4)),
        (
            Schedule(0.4, "cosine", end=99, warmup_steps=9, warmup_lr=0.1, warmup_mode="linear"),
            lambda: mx.lr_scheduler.CosineScheduler(99, 0.4, warmup_steps=9, warmup_begin_lr=0.1),
        ),
    ],
)
def test_schedules_agree_with_mxnets(ours, theirs):
    theirs = theirs()
    begin = 0 if ours.end or ours.warmup_steps else 1  # MXNet counts from 1 for factors, from 0 for the rest
    assert [ours(step) for step in range(100)] == pytest.approx([theirs(step + begin) for step in range(100)])


def test_the_schedules_of_torch_resnet():
    """400 iterations at a tenth; then the papers' 32k and 48k, or the wide nets' factors of 0.2."""
    paper = "--epochs 164 --lr-iterations 32000,48000 --warmup-steps 400 --warmup-lr 0.01"
    parsed = parse(["--data-type", "cifar10", *paper.split()])
    rate = parsed.rate.schedule(391, 128)
    steps = (0, 399, 400, 31999, 32000, 47999, 48000, 64000)
    assert [rate(step) for step in steps] == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    wide = "--lr-iterations 23000,46000,62000 --lr-factor 0.2 --warmup-steps 400 --warmup-lr 0.01"
    rate = parse(["--data-type", "cifar10", *wide.split()]).rate.schedule(391, 128)
    steps = (400, 23000, 46000, 62000)
    assert [rate(step) for step in steps] == pytest.approx([0.1, 0.02, 0.004, 0.0008])


def test_cosine_ends_at_zero_and_is_half_way_in_the_middle():
    rate = Schedule(0.2, "cosine", end=100)
    assert [rate(0), rate(50), rate(100), rate(1000)] == pytest.approx([0.2, 0.1, 0, 0])
    assert rate(25) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))


def test_retrain_keeps_to_the_schedule():
    retrain = "--retrain --model-load-epoch 3"
    assert rates(f"--epochs 6 --lr-steps 2,4 {retrain}") == pytest.approx([0.01, 0.001, 0.001])
    whole = rates("--epochs 6 --lr-schedule cosine")
    assert rates(f"--epochs 6 --lr-schedule cosine {retrain}") == whole[3:]


def test_a_learning_rate_given_at_retrain_counts_from_there():
    retrain = "--retrain --model-load-epoch 3 --lr 0.5"
    assert rates(f"--epochs 6 --lr-steps 2,4 {retrain}") == pytest.approx([0.5, 0.05, 0.05])
    cosine = rates(f"--epochs 6 --lr-schedule cosine {retrain}")
    assert cosine == pytest.approx([0.5, 0.375, 0.125])
    warmed_up = rates(f"--epochs 6 --lr-steps 2,4 {retrain} --warmup-steps 10 --warmup-lr 0.02")
    assert warmed_up == pytest.approx([0.02, 0.05, 0.05])


def test_the_rate_is_scaled_for_the_batch_only_when_asked():
    parsed = parse("--data-type cifar10 --batch-size 64".split())
    assert parsed.rate.schedule(10, 1024).lr == 0.1
    parsed = parse("--data-type cifar10 --batch-size 64 --scale-lr".split())
    assert parsed.rate.schedule(10, 1024).lr == pytest.approx(0.8)


def test_mxnets_optimizers_ask_from_1_and_servers_count_every_workers_updates():
    rate = Schedule(1, milestones=(3,))
    assert [Scheduler(rate)(update) for update in (1, 3, 4)] == pytest.approx([1, 1, 0.1])
    of_two = Rates(tabulate(rate, 0, 9), updates_per_step=2)
    assert [of_two(update) for update in (1, 2, 6, 7)] == pytest.approx([1, 1, 1, 0.1])


def test_a_schedule_is_told_in_a_sentence():
    told = Schedule(0.1, milestones=(20, 30), warmup_steps=5, warmup_lr=0.01).describe(steps_per_epoch=10)
    places = "20 (after 2 epochs), 30 (after 3 epochs)"
    assert told == f"Learning rate 0.1, in the first 5 steps 0.01, times 0.1 from steps {places} on"
