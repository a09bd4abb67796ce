"""Momentum under a schedule, and its state as arrays."""

from __future__ import annotations

from collections.abc import Callable

import mxnet as mx

from mxnet_resnet.base import environment
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.mxnet import serveroptimizer
from mxnet_resnet.engines.mxnet.group import KVStoreGroup
from mxnet_resnet.runs.checkpoint import Arrays

MOMENTUM = "momentum:"
LAYER_WEIGHTS = "_weight"


class Scheduler(mx.lr_scheduler.LRScheduler):
    """A schedule as MXNet's optimizers ask for it: with the number of the update, from 1."""

    def __init__(self, schedule: Callable[[int], float]):
        super().__init__()
        self.schedule = schedule

    def __call__(self, num_update: int) -> float:
        return self.schedule(num_update - 1)


def install(module: mx.mod.Module, spec: TrainingSpec, group: KVStoreGroup, step: int) -> None:
    """Give a bound module its optimizer, which goes on after ``step`` updates.

    Each device updates its own weights from the summed gradients, so that the state is at hand for checkpoints; only
    with dist_async it is on the servers.
    """
    devices = len(module._context)
    names = module._exec_group.param_names
    # Servers that update at once do so for each worker, with the gradients of that one alone.
    kind, by_index, workers, updates_per_step = spec.optimizer, _by_device(names, devices), group.count, 1
    scheduler: mx.lr_scheduler.LRScheduler = Scheduler(spec.schedule)
    if group.asynchronous:
        kind, by_index = f"server{kind}", dict(enumerate(names, group.next_key))
        workers, updates_per_step = 1, group.count
        rates = serveroptimizer.tabulate(spec.schedule, step, spec.steps)
        scheduler = serveroptimizer.Rates(rates, updates_per_step)
    optimizer = mx.optimizer.create(
        kind,
        sym=module.symbol,
        param_idx2name=by_index,
        rescale_grad=1 / (spec.batch_size * workers),
        momentum=spec.momentum,
        wd=spec.weight_decay,
        lr_scheduler=scheduler,
        begin_num_update=step * updates_per_step,
    )
    optimizer.set_wd_mult(_decay(names, spec.decayed))
    with environment.variable("MXNET_UPDATE_ON_KVSTORE", str(int(group.asynchronous))):  # read at installation
        module.init_optimizer(_store(group, devices), optimizer)


def _store(group: KVStoreGroup, devices: int) -> mx.kvstore.KVStore | None:
    """What sums gradients; that of one process has the keys of one net, and several may be trained in it in turn."""
    if not group.alone:
        return group.kvstore
    return mx.kvstore.create(group.store) if devices > 1 else None


def read_momentum(module: mx.mod.Module) -> Arrays:
    """The momentum by the name of its weight, as ``momentum:conv0_weight``; empty before the first step.

    Empty too where the servers have it, with dist_async.
    """
    if module._updater is None:
        return {}
    devices = len(module._context)
    states = module._updater.states
    return {
        MOMENTUM + name: states[index * devices].asnumpy()
        for index, name in enumerate(module._exec_group.param_names)
        if states.get(index * devices) is not None
    }


def write_momentum(module: mx.mod.Module, arrays: Arrays) -> None:
    """Go on with the momentum that `read_momentum` gave."""
    updater = module._updater
    if updater is None:
        return
    names = _by_device(module._exec_group.param_names, len(module._context))
    for index, name in names.items():
        if MOMENTUM + name in arrays:
            context, array = module._context[index % len(module._context)], arrays[MOMENTUM + name]
            updater.states[index] = mx.nd.array(array, context, dtype=array.dtype)
            updater.states_synced[index] = True


def _by_device(names: list[str], devices: int) -> dict[int, str]:
    """The index that Module gives to each weight on each device."""
    return {index * devices + device: name for index, name in enumerate(names) for device in range(devices)}


def _decay(names: list[str], kind: str) -> dict[str, float]:
    """What to change of MXNet's rule, that weights and gammas decay, betas and biases do not."""
    if kind == "weights":
        return {name: 0.0 for name in names if not name.endswith(LAYER_WEIGHTS)}
    return {name: 1.0 for name in names} if kind == "all" else {}
