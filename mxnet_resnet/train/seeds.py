"""Several seeds of one run: at once where the devices can, else one after the other.

Each is the run that it is alone, with its own prefix, log, metrics and checkpoints.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.interruption import Interrupted, Wish
from mxnet_resnet.engines.base import Engine, Session
from mxnet_resnet.plot import aggregate, curves, figures, logreader, means
from mxnet_resnet.runs import logbook
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.header import write_header
from mxnet_resnet.train.loop import PROGRESS_BAR
from mxnet_resnet.train.run import Opened, begin, finish, log_path, opening, start, train_alone
from mxnet_resnet.train.setup import Plan, planning

DONE = object()


def train_seeds(runs: Sequence[RunSettings], engine: Engine) -> None:
    """Train several seeds, print their table and draw their mean; one that fails does not stop the others.

    Raises UserError where the settings, the data and the runs to go on with do not fit each other, before anything is
    written, and at the end where seeds have failed; Interrupted after a signal and when the time is up.
    """
    with planning(runs, engine) as (plans, wish):
        place = plans[0].place
        together = len(plans) > 1 and engine.trains_together(plans[0].settings.net.plan, plans[0].spec, place.devices)
        failed = (_train_at_once if together else _train_in_turn)(plans, wish)
        done = [plan for plan in plans if plan not in failed]
        if done and place.group.rank == 0:
            _sum_up(done)
        if failed:
            count = f"{len(failed)} of {len(plans)} seeds failed"
            raise UserError(f"{count}: {_name(failed)}; why is told above")


def _train_in_turn(plans: Sequence[Plan], wish: Wish) -> list[Plan]:
    """Train one after the other; those that failed."""
    failed = []
    for number, plan in enumerate(plans):
        try:
            train_alone(plan, wish)
        except UserError as error:
            if not plan.place.group.alone:  # the other workers wait for this one
                raise
            _tell(plan, error)
            failed.append(plan)
        except Interrupted as end:
            raise _interrupted(end, plans[number:], failed) from None
    return failed


def _train_at_once(plans: Sequence[Plan], wish: Wish) -> list[Plan]:
    """Train all together, a step of each at a time; those that failed."""
    held = logbook.Held()
    with ExitStack() as stack:
        stack.enter_context(logbook.telling())
        with held.receiving():
            sessions = [start(plan) for plan in plans]
            launch = plans[0].place.engine.unite(sessions)  # where the memory is too little nothing is written yet
        opened = [stack.enter_context(opening(plan, f"[seed {plan.settings.seed}] ")) for plan in plans]
        lines = held.pop()
        lanes = [_Lane(one, session, wish, lines) for one, session in zip(opened, sessions)]
        for lane in lanes:
            stack.callback(lane.steps.close)
        batches = sum(map(_count_batches, plans))
        bar = stack.enter_context(tqdm(desc=f"{len(plans)} seeds", total=batches, **PROGRESS_BAR))
        going = lanes
        while going := [lane for lane in going if lane.advance()]:
            bar.update(len(going))
            _launch(launch, going, held)
    stopped = {lane.plan: lane.end for lane in lanes if isinstance(lane.end, Interrupted)}
    failed = [lane.plan for lane in lanes if isinstance(lane.end, UserError)]
    if stopped:
        raise _interrupted(next(iter(stopped.values())), [*stopped], failed)
    return failed


class _Lane:
    """One of the runs that are trained at once.

    Attributes:
        end: what ended it before its last epoch.
    """

    def __init__(self, opened: Opened, session: Session, wish: Wish, lines: Sequence[logging.LogRecord]):
        self.plan, self._opened = opened.plan, opened
        self.end: UserError | Interrupted | None = None
        with opened.receiving():
            write_header(self.plan)
        assert opened.log is not None  # it has no workers beside it
        self.log = opened.log
        self.log.take(lines)
        self._loop = begin(opened, session, wish, bar=False)
        self.steps = self._loop.steps()

    def advance(self) -> bool:
        """Go on up to where the next step is begun; whether there is one."""
        try:
            with self._opened.receiving():
                if next(self.steps, DONE) is not DONE:
                    return True
                finish(self._opened, self._loop)
        except UserError as error:
            _tell(self.plan, error)
            self.end = error
        except Interrupted as end:
            self.end = end
        return False


def _launch(launch: Callable[[], None], lanes: Sequence[_Lane], held: logbook.Held) -> None:
    """Compute the steps that are begun; what is logged meanwhile is of all runs."""
    try:
        with held.receiving():
            launch()
    except UserError as error:
        for lane in lanes:
            lane.log.note(error)
        raise
    if lines := held.pop():
        for lane in lanes:
            lane.log.take(lines)


def _count_batches(plan: Plan) -> int:
    """Those of the epochs ahead."""
    settings, entry = plan.settings, plan.begin.entry
    an_epoch = -(-plan.place.summaries[settings.data.train].count // settings.batch_size)
    return max(0, settings.epochs - entry.epoch) * an_epoch - entry.batch


def _sum_up(plans: Sequence[Plan]) -> None:
    """Print the table of runs, and draw their mean; what goes wrong is told alone, for the training is done."""
    settings = plans[0].settings
    name = str(settings.series)
    try:
        runs = [logreader.read(log_path(plan.settings, plan.place.group)) for plan in plans]
        groups, left_out = aggregate.without_diverged({name: runs}, "top1")
        print(aggregate.markdown([aggregate.row(name, groups[name], "top1")], curves.LABELS["top1"]), flush=True)
        for sentence in left_out:
            print(f"left out: {sentence}", file=sys.stderr)
        number = log_path(settings, plans[0].place.group).parent.name.removeprefix(Path(settings.saving.prefix).name)
        path = settings.saving.log_dir / f"{name}{number}-seeds.png"  # as the folders of its logs
        (mean,), _ = means.average({name: runs})
        figures.draw([mean], curves.View(curves.choose_metrics([mean], None)), path)
        print(f"Saved the curves of the seeds to {path}", file=sys.stderr)
    except Exception as error:
        print(f"There are no curves of the seeds: {error} ({type(error).__name__})", file=sys.stderr)


def _tell(plan: Plan, error: UserError) -> None:
    tqdm.write(f"seed {plan.settings.seed} failed: {error}", file=sys.stderr)


def _interrupted(end: Interrupted, left: Sequence[Plan], failed: Sequence[Plan]) -> Interrupted:
    """The end of all, by the word of one; those that failed before are named."""
    why, command = "Time is up", "the same command"
    if end.number is not None:
        why, command = f"Stopped by {signal.Signals(end.number).name}", "the same command with --resume"
    others = f"; failed: {_name(failed)}" if failed else ""
    seeds = "the seeds" if len(left) > 1 else "the seed"
    return Interrupted(end.number, f"{why}: {command} goes on with {seeds} {_name(left)}{others}")


def _name(plans: Sequence[Plan]) -> str:
    return ", ".join(str(plan.settings.seed) for plan in plans)
