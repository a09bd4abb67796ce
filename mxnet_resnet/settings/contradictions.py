"""Flags that contradict each other or mean nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data.datasets import OURS
from mxnet_resnet.settings.flags import ALTERNATIVES, Flags
from mxnet_resnet.settings.schedule import STEPS


def settle_engine(options: argparse.Namespace) -> str:
    """The engine that is asked for, where need be by a flag that one of them alone can do."""
    if options.engine == "auto" and _needs_mxnet(options):
        return "mxnet"
    if options.engine == "auto" and _needs_torch(options):
        return "torch"
    return options.engine


def _needs_torch(options: argparse.Namespace) -> str | None:
    """The flag that PyTorch alone can do, with its value."""
    return f"--compile {options.compile}" if options.compile not in ("auto", "no") else None


def _needs_mxnet(options: argparse.Namespace) -> str | None:
    """The flag that MXNet alone can do, with its value."""
    if options.kv_store.startswith("dist_"):
        return f"--kv-store {options.kv_store}"
    return f"--data-backend {options.data_backend}" if options.data_backend != OURS else None


def refuse_contradictions(options: argparse.Namespace, given: Flags) -> None:
    """Raise UserError for values that contradict each other or mean nothing."""
    check_prefix(options.model_prefix)
    if options.engine == "torch" and (flag := _needs_mxnet(options)):
        instead = (
            "torchrun joins PyTorch's workers (docs/distributed.md)"
            if "kv-store" in flag
            else f"take --data-backend {OURS}"
        )
        raise UserError(f"{flag} is MXNet's, and --engine is torch: {instead}")
    if settle_engine(options) == "mxnet" and (flag := _needs_torch(options)):
        other = _needs_mxnet(options) if options.engine == "auto" else f"--engine {options.engine}"
        raise UserError(f"{flag} is PyTorch's, and {other} is MXNet's: give one of them")
    if options.eval_only:
        if options.retrain:
            raise UserError("--eval-only trains nothing, and --retrain does: give one of them")
        return
    if options.retrain != (options.model_load_epoch is not None):
        raise UserError("--retrain and --model-load-epoch go together: the epoch says which parameters to start from")
    if not options.retrain and (options.load_params is not None or options.reset_optimizer):
        raise UserError("--load-params and --reset-optimizer go with --retrain")
    if options.memonger_budget is not None and given.get("memonger") is False:
        raise UserError("--memonger-budget and --no-memonger contradict each other: give one of them")
    for one, other in ALTERNATIVES:
        if {one, other} <= given.keys():
            raise UserError(f"--{one} and --{other} say the same in two ways: give one of them")
    if options.data_workers and options.data_nthreads is not None:
        raise UserError(
            f"--data-workers {options.data_workers} are processes of one thread, and --data-nthreads are threads in "
            "their place: give one of them, or --data-workers 0"
        )
    if options.retrain and options.model_load_epoch >= options.epochs:
        raise UserError(
            f"--model-load-epoch {options.model_load_epoch} leaves nothing to train of --epochs {options.epochs}"
        )
    _refuse_rates(options, given)


def check_prefix(prefix: str) -> None:
    """Raise UserError where the prefix of checkpoints is a folder."""
    if not Path(prefix).name or prefix.endswith("/"):
        raise UserError(f"--model-prefix {prefix} is a folder: add a name, as in {prefix}net")


def _refuse_rates(options: argparse.Namespace, given: Flags) -> None:
    for flag, values in (("lr-steps", options.lr_steps), ("lr-iterations", options.lr_iterations)):
        if values and (sorted(set(values)) != values or values[0] < 1):
            raise UserError(f"--{flag} {','.join(map(str, values))} are not whole numbers from 1 on in rising order")
    if options.lr_schedule != STEPS and ("lr-steps" in given or options.lr_iterations):
        raise UserError(f"--lr-schedule {options.lr_schedule} has no steps: give no --lr-steps and --lr-iterations")
