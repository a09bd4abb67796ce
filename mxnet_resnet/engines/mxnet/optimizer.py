"""Momentum under a schedule, and its state as arrays."""

from __future__ import annotations

import argparse

import mxnet as mx

from mxnet_resnet.base import environment
from mxnet_resnet.engines.mxnet.group import Peers  # which registers the optimizers of servers, too
from mxnet_resnet.engines.mxnet.ndarrays import Arrays
from mxnet_resnet.settings.schedule import Schedule

MOMENTUM = "momentum:"
LAYER_WEIGHTS = "_weight"


class Scheduler(mx.lr_scheduler.LRScheduler):
    """A schedule as MXNet's optimizers ask for it: with the number of the update, from 1."""

    def __init__(self, schedule: Schedule, updates_per_step: int = 1):
        super().__init__(schedule.lr)
        self.schedule, self.updates_per_step = schedule, updates_per_step

    def __call__(self, num_update: int) -> float:
        return self.schedule((num_update - 1) // self.updates_per_step)


def install(module: mx.mod.Module, options: argparse.Namespace, schedule: Schedule, peers: Peers, step: int) -> None:
    """Give a bound module its optimizer, which goes on after ``step`` updates.

    Each device updates its own weights from the summed gradients, so that the state is at hand for checkpoints; only
    with dist_async it is on the servers.
    """
    devices = len(module._context)
    names = module._exec_group.param_names
    # Servers that update at once do so for each worker, with the gradients of that one alone.
    kind, by_index, workers, updates_per_step = options.optimizer, _by_device(names, devices), peers.count, 1
    if peers.asynchronous:
        kind, by_index = f"server{kind}", dict(enumerate(names, peers.next_key))
        workers, updates_per_step = 1, peers.count
    optimizer = mx.optimizer.create(
        kind,
        sym=module.symbol,
        param_idx2name=by_index,
        rescale_grad=1 / (options.batch_size * workers),
        momentum=options.mom,
        wd=options.wd,
        lr_scheduler=Scheduler(schedule, updates_per_step),
        learning_rate=schedule.lr,
        begin_num_update=step * updates_per_step,
    )
    optimizer.set_wd_mult(_decay(names, options.wd_on))
    with environment.variable("MXNET_UPDATE_ON_KVSTORE", str(int(peers.asynchronous))):  # read at installation
        module.init_optimizer(None if peers.alone and devices == 1 else peers.store, optimizer)


def state(module: mx.mod.Module) -> Arrays:
    """The momentum by the name of its weight, as ``momentum:conv0_weight``; empty before the first step.

    Empty too where the servers have it, with dist_async.
    """
    if module._updater is None:
        return {}
    devices = len(module._context)
    states = module._updater.states
    return {
        MOMENTUM + name: states[index * devices]
        for index, name in enumerate(module._exec_group.param_names)
        if states.get(index * devices) is not None
    }


def restore(module: mx.mod.Module, arrays: Arrays) -> None:
    """Go on with the momentum that `state` gave."""
    updater = module._updater
    if updater is None:
        return
    names = _by_device(module._exec_group.param_names, len(module._context))
    for index, name in names.items():
        if MOMENTUM + name in arrays:
            context = module._context[index % len(module._context)]
            updater.states[index] = arrays[MOMENTUM + name].copyto(context)
            updater.states_synced[index] = True


def _by_device(names: list[str], devices: int) -> dict[int, str]:
    """The index that Module gives to each weight on each device."""
    return {index * devices + device: name for index, name in enumerate(names) for device in range(devices)}


def _decay(names: list[str], kind: str) -> dict[str, float]:
    """What to change of MXNet's rule, that weights and gammas decay, betas and biases do not."""
    if kind == "weights":
        return {name: 0.0 for name in names if not name.endswith(LAYER_WEIGHTS)}
    return {name: 1.0 for name in names} if kind == "all" else {}
