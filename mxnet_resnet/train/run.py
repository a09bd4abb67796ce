"""A run from its plan to its report; several seeds of one (train/seeds.py) go through the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mxnet_resnet.base import environment
from mxnet_resnet.base.interruption import Wish
from mxnet_resnet.data import recordio
from mxnet_resnet.engines.base import Engine, Group, Session
from mxnet_resnet.plot import report
from mxnet_resnet.runs import ledger, logbook, metrics, ownership
from mxnet_resnet.runs.logbook import Log
from mxnet_resnet.runs.metrics import MetricsFile
from mxnet_resnet.settings.sections import RunSettings
from mxnet_resnet.train.header import write_header
from mxnet_resnet.train.loop import Loop, Surroundings
from mxnet_resnet.train.setup import Plan, planning


@dataclass(frozen=True)
class Opened:
    """A run whose log and metrics are open."""

    plan: Plan
    log: Log | None
    metrics: MetricsFile

    def receiving(self) -> AbstractContextManager[None]:
        """Within it the lines that are logged are those of this run."""
        return self.log.receiving() if self.log else nullcontext()


def train(settings: RunSettings, engine: Engine) -> None:
    """Train: checkpoints at ``settings.saving.prefix``, a log in ``settings.saving.log_dir``.

    Raises UserError before anything is written where the settings, the data and the run to go on with do not fit each
    other, and Interrupted after a signal and when the time is up.
    """
    with planning([settings], engine) as (plans, wish):
        train_alone(plans[0], wish)


def train_alone(plan: Plan, wish: Wish) -> None:
    """Train one run. Raises as `Loop.steps`."""
    with opening(plan) as opened, opened.receiving():
        write_header(plan)
        loop = begin(opened, start(plan), wish)
        loop.run()
        finish(opened, loop)


@contextmanager
def opening(plan: Plan, title: str = "") -> Iterator[Opened]:
    """The log and the metrics of a run, open, which is from now on the one to resume; on the terminal its lines begin
    with ``title``.
    """
    settings, group = plan.settings, plan.place.group
    if group.rank == 0:
        plan.notes.extend(ownership.keep_graph(settings.saving.prefix, plan.model.graph))
        ledger.note_start(settings.saving.prefix, plan.begin.entry, plan.begin.anew)
    path = log_path(settings, group)
    append = settings.start.retrain or not plan.begin.anew
    folder = None if group.rank else path.parent
    with (
        nullcontext() if group.local_rank else logbook.opening(path, append, title, settings.saving.prefix) as log,
        metrics.writing(folder, append, settings.saving.tensorboard, plan.begin.entry.epoch) as metrics_file,
    ):
        yield Opened(plan, log, metrics_file)


def start(plan: Plan) -> Session:
    """The net of a run on the devices. Raises UserError."""
    return plan.model.start(plan.place.group, plan.begin.snapshot, plan.begin.entry.step)


def begin(opened: Opened, session: Session, wish: Wish, bar: bool = True) -> Loop:
    """The loop of a run, for which what only an earlier one could use is removed."""
    plan, place = opened.plan, opened.plan.place
    if place.group.rank == 0:
        ledger.begin(plan.settings.saving.prefix, plan.begin.entry, plan.begin.anew)
        if not plan.begin.anew and not plan.begin.unvalidated:
            ledger.prune(plan.settings.saving.prefix, plan.begin.entry, plan.settings.saving.keep)
    around = Surroundings(
        engine=place.engine,
        session=session,
        group=place.group,
        summaries=place.summaries,
        stored=place.stored,
        rate=plan.rate,
        graph=plan.model.graph,
        wish=wish,
        metrics=opened.metrics,
        bar=bar,
    )
    return Loop(plan.settings, around, plan.begin)


def finish(opened: Opened, loop: Loop) -> None:
    """Write the report of a run that has validated its last epoch."""
    if loop.confusions is None:
        return
    plan, val = opened.plan, opened.plan.settings.data.val
    records = recordio.RecordFile(val, plan.place.summaries[val].offsets)
    report.attempt(log_path(plan.settings, plan.place.group).parent, _describe(plan), records, loop.confusions)


def log_path(settings: RunSettings, group: Group) -> Path:
    """The log of the workers on a machine."""
    machine = group.rank // group.local_count
    name = f"train-worker{machine}.log" if machine else "train.log"
    return logbook.find_folder(settings.saving.log_dir, settings.saving.prefix) / name


def _describe(plan: Plan) -> report.Subject:
    """The run as its report tells it."""
    settings, data = plan.settings, plan.settings.data
    epochs = f"{settings.epochs} epochs in batches of {settings.flags['batch_size']}"
    return report.Subject(
        title=f"{settings.net.title} on {data.kind}, {epochs}",
        arguments=settings.flags,
        given=frozenset(name.replace("-", "_") for name in settings.start.arguments),
        notes=[*plan.notes, *plan.doubts],
        versions=plan.versions,
        memory={**environment.memory(), **plan.place.engine.memory(plan.place.devices)},
        classes=report.name_classes(data.val, data.classes, of_imagenet=data.kind == "imagenet"),
    )
