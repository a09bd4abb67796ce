"""Momentum under a schedule, and its state as arrays."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

import mxnet as mx

from mxnet_resnet import peers as peers  # registers the optimizers of servers
from mxnet_resnet.checkpoint import Arrays
from mxnet_resnet.schedule import Schedule

KINDS = {"nag": "Nesterov momentum", "sgd": "momentum"}
MOMENTUM = "momentum:"
LAYER_WEIGHTS = "_weight"


class Scheduler(mx.lr_scheduler.LRScheduler):
    """A schedule as MXNet's optimizers ask for it: with the number of the update, from 1."""

    def __init__(self, schedule: Schedule, updates_per_step: int = 1):
        super().__init__(schedule.lr)
        self.schedule, self.updates_per_step = schedule, updates_per_step

    def __call__(self, num_update: int) -> float:
        return self.schedule((num_update - 1) // self.updates_per_step)


def install(
    module: mx.mod.Module,
    options: argparse.Namespace,
    schedule: Schedule,
    store: mx.kvstore.KVStore,
    step: int,
    first_key: int = 0,
) -> None:
    """Give a bound module its optimizer, which goes on after ``step`` updates; ``first_key`` is Peers.next_key.

    Each device updates its own weights from the summed gradients, so that the state is at hand for checkpoints; only
    with dist_async it is on the servers.
    """
    asynchronous = store.type == "dist_async"
    devices = len(module._context)
    needs_store = devices > 1 or store.type.startswith("dist")
    names = module._exec_group.param_names
    total_batch = options.batch_size * (1 if asynchronous else store.num_workers)
    optimizer = mx.optimizer.create(
        f"server{options.optimizer}" if asynchronous else options.optimizer,
        sym=module.symbol,
        param_idx2name=dict(enumerate(names, first_key)) if asynchronous else _by_device(names, devices),
        rescale_grad=1 / total_batch,
        momentum=options.mom,
        wd=options.wd,
        lr_scheduler=Scheduler(schedule, store.num_workers if asynchronous else 1),
        learning_rate=schedule.lr,
        begin_num_update=step * (store.num_workers if asynchronous else 1),
    )
    optimizer.set_wd_mult(_decay(names, options.wd_on))
    with _updates_on_store(asynchronous):
        module.init_optimizer(store if needs_store else None, optimizer)


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


@contextmanager
def _updates_on_store(wanted: bool) -> Iterator[None]:
    """MXNet's switch for who updates the weights, which it reads when an optimizer is installed."""
    name = "MXNET_UPDATE_ON_KVSTORE"
    before = os.environ.get(name)
    os.environ[name] = str(int(wanted))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
