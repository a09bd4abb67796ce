"""Launch a training on several machines: `python tools/launch.py -n 2 -H hosts python train_resnet.py FLAGS`.

The processes are started by MXNet's dmlc_tracker, which takes further flags: --jobname, --slurm-worker-nodes, ...
They end as one: when a process dies the others are ended, Ctrl-C and SIGTERM go to the workers, which write a
checkpoint, and the status is the job's. The scheduler runs on this machine. docs/distributed.md has more.
"""

from __future__ import annotations

import re
import sys

from mxnet_resnet.base.arguments import Parser, integer
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import launcher


def main() -> int:
    parser = Parser(__doc__, allow_abbrev=False, usage="%(prog)s -n WORKERS [flags] COMMAND ...")
    parser.add_argument("-n", "--num-workers", type=integer(), required=True, help="worker processes")
    parser.add_argument("-s", "--num-servers", type=integer(), help="server processes (as many as workers)")
    parser.add_argument("-H", "--hostfile", help="the hosts, one a line: for ssh and mpi")
    parser.add_argument("--launcher", choices=launcher.LAUNCHERS, help="what starts them (ssh with -H, else local)")
    parser.add_argument("--host", help="address of this machine for the others, where the guess is wrong")
    parser.add_argument("--port", type=integer(high=65535), help="port of the scheduler (a free one)")
    flags, command = split(sys.argv[1:])
    options, passed_on = parser.parse_known_args(flags)
    if not command:
        raise UserError("there is no command to launch: python tools/launch.py -n 2 python train_resnet.py ...")
    if re.search(r"--engine[= ]torch\b", " ".join(command)):
        raise UserError("tools/launch.py starts workers of MXNet: those of PyTorch are started by torchrun")
    options.launcher = options.launcher or ("ssh" if options.hostfile else "local")
    if options.launcher == "ssh" and not options.hostfile:
        raise UserError("--launcher ssh needs the hosts: -H FILE, one a line")
    return launcher.launch(launcher.JobOptions(**vars(options)), passed_on, command)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The launcher's flags, each of which has a value, and the command behind them."""
    index = 0
    while index < len(arguments) and arguments[index].startswith("-") and arguments[index] != "--":
        alone = "=" in arguments[index] or re.fullmatch(r"-\w.+|-h|--help", arguments[index])
        index += 1 if alone else 2
    return arguments[:index], arguments[index + (arguments[index : index + 1] == ["--"]) :]
