"""The head of a log: all that is needed to repeat a run, and what of it is at odds."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator

from mxnet_resnet.settings import flags
from mxnet_resnet.settings.schedule import STEPS
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.checks import count_steps
from mxnet_resnet.train.setup import Plan

KEPT_IN_LINE = {"seed", "resume"}  # in the line for programs even where they are the defaults


def write_header(plan: Plan) -> None:
    """Log the settings as a table, and in a line as MXNet's own scripts have them; then what they have led to."""
    settings, summaries, data = plan.settings, plan.place.summaries, plan.settings.data
    for line in ("Settings, those with * given here or by a recipe", *tabulate(settings)):
        logging.info(line)
    logging.info(make_namespace(settings))
    logging.info(", ".join(f"{name} {value}" for name, value in plan.versions.items()))
    logging.info("%d training images in %s", summaries[data.train].count, data.train)
    logging.info("%d validation images in %s", summaries[data.val].count, data.val)
    logging.info("%d parameters", plan.model.parameters)
    logging.info("Augmentation level %d: %s", data.aug_level, data.augmentation())
    if data.aug_off_epoch is not None:
        logging.info("From Epoch[%d] on level 1, with %s", data.aug_off_epoch, data.later_train)
    for note in plan.notes:
        logging.info(note)
    for odd in find_odds(plan):
        logging.warning(odd)


def tabulate(settings: RunSettings) -> list[str]:
    """A line a flag that was given or has a value, under the titles of the groups of ``--help``."""
    lines, given = [], {*settings.start.arguments} - ({"model-prefix"} - settings.given)
    for title, names in flags.list_groups().items():
        rows = []
        for name in names:
            flag, value = name.replace("_", "-"), settings.flags[name]
            if flag in given or not (value is None or value is False or value == []):
                rows.append(f"  {'*' if flag in given else ' '} {flag:<20} {flags.as_text(value)}")
        lines += [f"  {title}", *rows] if rows else []
    return lines


def make_namespace(settings: RunSettings) -> argparse.Namespace:
    """The flags whose values are no defaults of the command line; those that follow from the data type are among them.

    Existing tools, and plot/logreader.py, read this line: runs are told apart by it.
    """
    defaults = vars(flags.parse({}))
    told = {
        name: value
        for name, value in settings.flags.items()
        if name in KEPT_IN_LINE or value != defaults.get(name, value)
    }
    return argparse.Namespace(**told)


def find_odds(plan: Plan) -> Iterator[str]:
    """Sentences on records or settings that do not go together, or lead to nothing."""
    settings, workers = plan.settings, plan.place.group.count
    counted = plan.place.summaries[settings.data.train].count
    yield from plan.doubts
    yield from _find_idle_flags(settings)
    yield from _find_unreached(plan, count_steps(settings, counted, workers))
    rate, batch = settings.rate, settings.batch_size * workers
    if batch != rate.batch and "lr" not in settings.given and not rate.scaled:
        yield (
            f"The learning rate is for batches of {rate.batch}, these are of {batch}: --scale-lr multiplies it by "
            f"{batch / rate.batch:g}"
        )


def _find_unreached(plan: Plan, steps_per_epoch: int) -> Iterator[str]:
    """What would happen behind the last epoch."""
    settings, last = plan.settings, plan.settings.epochs * steps_per_epoch
    late = [milestone / steps_per_epoch for milestone in plan.rate.milestones if milestone >= last]
    ends = f"the run ends after {settings.epochs}"
    if late:
        places = ", ".join(f"{epoch:.4g}" for epoch in late)
        instead = ": --lr-steps says when it does, and --lr-schedule cosine ends with the run"
        yield f"The learning rate would fall after {places} epochs, and {ends}{instead if plan.begin.anew else ''}"
    warmup = settings.rate.warmup_steps
    if warmup and plan.rate.warmed_up >= last:
        yield f"The warm-up of {warmup} steps lasts to the end of the run, which is step {last}"
    if settings.data.aug_off_epoch is not None and settings.data.aug_off_epoch >= settings.epochs:
        yield f"--aug-off-epoch {settings.data.aug_off_epoch} is never reached: {ends}"
    every = settings.saving.every_batches
    if every is not None and every > steps_per_epoch:
        yield f"--save-batches {every} is never reached: an epoch has {steps_per_epoch} batches"


def _find_idle_flags(settings: RunSettings) -> Iterator[str]:
    """Flags that were given and change nothing beside the others."""
    rate = settings.rate
    idle = {
        "lr-factor": rate.way != STEPS or not (rate.epochs or rate.iterations),
        "warmup-lr": not settings.rate.warmup_steps,
        "warmup-mode": not settings.rate.warmup_steps,
    }
    needed = {"lr-factor": "--lr-steps or --lr-iterations"}
    for flag, is_idle in idle.items():
        if is_idle and flag in settings.given:
            yield f"--{flag} changes nothing without {needed.get(flag, '--warmup-steps')}"
