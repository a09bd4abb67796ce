"""Seconds from the start of a command to its end: imports, help, one image.

The commands take turns, --rounds times. One image goes through a ResNet-50 with random weights, batch 1, from its
checkpoint: by predict.py, and with --compare by torch-resnet where it is installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.common import output, spread, table, tell_left_out, write_json
from benchmarks.ours import random_net
from benchmarks.way import INFER
from mxnet_resnet.base.arguments import integer
from mxnet_resnet.use import writing

PYTHON = sys.executable
OURS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import mxnet (after compat)": [PYTHON, "-c", "import mxnet_resnet.engines.mxnet, mxnet"],
    "train_resnet.py --help": [PYTHON, "train_resnet.py", "--help"],
    "plot_curve.py --help": [PYTHON, "log/plot_curve.py", "--help"],
}
TORCH = """
import cv2, torch, torch_resnet
net = torch_resnet.PreActResNet50()
net.set_head(torch.nn.Linear(net.out_planes, 1000))
net.load_state_dict(torch.load("{folder}/net.pth", weights_only=True))
image = torch.from_numpy(cv2.resize(cv2.imread("{folder}/image.png"), (224, 224))).permute(2, 0, 1)[None].float()
with torch.inference_mode():
    print(net.eval()(image).argmax())
"""
SAVE_TORCH = """
import torch, torch_resnet
net = torch_resnet.PreActResNet50()
net.set_head(torch.nn.Linear(net.out_planes, 1000))
torch.save(net.state_dict(), "{folder}/net.pth")
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--compare", action="store_true", help="with the peers that are installed, too")
    command.add_argument("--rounds", type=integer(), default=5, help="of all commands")
    command.add_argument("--json", type=Path, help="write the figures here too")


def main(arguments: argparse.Namespace) -> None:
    lacking = INFER["torch-float32"].lacks()
    if arguments.compare:
        tell_left_out("torch-resnet", lacking)
    with tempfile.TemporaryDirectory() as folder:
        commands = {**OURS, **of_one_image(folder, arguments.compare and not lacking)}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in tqdm(range(arguments.rounds), unit="round", disable=None):
            for name, command in commands.items():
                started = time.perf_counter()
                output(name, command)
                seconds[name].append(time.perf_counter() - started)
    rows = [[name, spread(of, ".2f")] for name, of in seconds.items()]
    print(table(("", f"seconds: median (lowest to highest) of {arguments.rounds}"), rows))
    if arguments.json:
        write_json(arguments.json, seconds)


def of_one_image(folder: str, compare: bool) -> dict[str, list[str]]:
    """The commands that classify one image, whose net and image are in ``folder`` from now on."""
    net = random_net(50)
    writing.write_probabilities(f"{folder}/net", net)
    cv2.imwrite(f"{folder}/image.png", np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8))
    given = ["--img", f"{folder}/image.png", "--prefix", f"{folder}/net"]
    commands = {"predict.py, one image": [PYTHON, "predict/predict.py", *given]}
    if compare:
        output("torch-resnet", [PYTHON, "-c", SAVE_TORCH.format(folder=folder)])
        commands["torch-resnet, one image"] = [PYTHON, "-c", TORCH.format(folder=folder)]
    return commands
