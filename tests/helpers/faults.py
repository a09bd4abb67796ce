"""A training script of a user's, in which something happens to one worker: FAULT is what, WORKER whose rank."""

import os
import signal
import threading
import time

from mxnet_resnet.base.errors import UserError, run
from mxnet_resnet.commands.train import main
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.train.loop import Loop


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(*_):
    raise UserError("a record does not decode")


def divide_by_zero(*_):
    return 1 // 0


def do_at_batch_3(loop, act):
    if loop.position.batch == 3:
        act()


def die_while_saving(*_):
    threading.Timer(0.004, die).start()


FAULTS = {
    "killed in training": (Loop, "_step", lambda loop, *_: do_at_batch_3(loop, die)),
    "killed in validation": (Loop, "_validation_batches", die),
    "killed while adding up": (Loop, "_measure", die),
    "killed while saving": (checkpoint, "save_run", die_while_saving),
    "error": (Loop, "_step", lambda loop, *_: do_at_batch_3(loop, fail)),
    "error at once": (Loop, "_train_epoch", fail),
    "bug": (Loop, "_step", lambda loop, *_: do_at_batch_3(loop, divide_by_zero)),
}


def break_worker(owner, name, act):
    """Let a function of a class or a module begin with another one."""
    before = getattr(owner, name)

    def broken(*arguments):
        act(*arguments)
        result = before(*arguments)
        time.sleep(act is die_while_saving)
        return result

    setattr(owner, name, broken)


if __name__ == "__main__":
    if os.environ.get("RANK") in os.environ["WORKER"].split():
        break_worker(*FAULTS[os.environ["FAULT"]])
    run(main)
