"""When a net is compiled, and how: PyTorch's own compiler, on the whole net or unit by unit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.base import TrainingSpec
from mxnet_resnet.engines.torch import models, nets
from mxnet_resnet.plans.architecture import Architecture

# A step that is not compiled takes at least so long on an H100, as one CUDA graph in bfloat16: seconds a convolution,
# where launches count, and seconds an operation of the net, where arithmetic does. Other GPUs gain more.
SECONDS_A_CONVOLUTION, SECONDS_AN_OPERATION = 1e-4, 1 / 120e12
WORTH = 60  # seconds of a run that are worth the time that compiling takes
MOST_UNITS = 20  # that are compiled in one piece, in less than a minute
VARIANTS = 64  # of a unit's shapes: more than any net has
MODES = {"yes": None, "max-autotune": "max-autotune-no-cudagraphs"}  # the graph is ours


@dataclass(frozen=True)
class Compilation:
    """How a net is compiled.

    Attributes:
        mode: of torch.compile.
        whole: the net, its loss and what is counted in one piece; else unit by unit, where equal ones are compiled
            once, which is what deep nets take.
    """

    mode: str | None
    whole: bool

    def __str__(self) -> str:
        return f"{'the whole net' if self.whole else 'unit by unit'}{', ' + self.mode if self.mode else ''}"


def choose(plan: Architecture, spec: TrainingSpec, device: torch.device, workers: int) -> Compilation | str:
    """How to compile; or why not, in a sentence, which is empty where that is not wanted or takes longer than it saves.

    Raises UserError where it is wanted, and cannot be.
    """
    asked = spec.compilation != "auto"
    if spec.compilation == "no":
        return ""
    if spec.memonger and asked:
        raise UserError(f"--compile {spec.compilation} and --memonger do not go together: give one of them")
    if spec.memonger or (not asked and (device.type != "cuda" or estimate_seconds(plan, spec) <= WORTH)):
        return ""
    obstacle = find_obstacle(device) or ("" if asked else try_compiler(device))
    if obstacle and asked:
        raise UserError(f"--compile {spec.compilation} needs {obstacle}")
    if obstacle:
        return f"Slower than it could be: to compile the net needs {obstacle}"
    whole = workers == 1 and sum(units for units, _ in plan.dimensions[1:]) <= MOST_UNITS
    return Compilation(MODES[spec.compilation if asked else "yes"], whole)


def try_compiler(device: torch.device) -> str:
    """Why PyTorch's compiler does not work on a device, as where a header is missing, or nothing: it adds two numbers.

    Nobody who has not asked for it is to be held up by it.
    """
    keep_compiled()
    try:
        torch.compile(torch.add, fullgraph=True)(torch.ones(2, device=device), 1)
    except Exception as error:
        return f"a compiler that works, and this says: {_find_reason(error)}"
    return ""


def _find_reason(error: Exception) -> str:
    """The first line of what PyTorch's own error is raised for."""
    cause = getattr(error, "inner_exception", error)
    return next(filter(None, str(cause).splitlines()), type(cause).__name__)


def find_obstacle(device: torch.device) -> str:
    """What PyTorch's compiler needs for a device and is not here, or nothing."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton: pip install triton"
    variable, commands = ("CC", ("gcc", "clang", "cc")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    if variable not in os.environ and not any(map(shutil.which, commands)):
        return f"a compiler, such as {commands[0]}"
    return ""


@contextmanager
def explaining_failures() -> Iterator[None]:
    """Raise UserError for what PyTorch cannot compile."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"the net cannot be compiled: {_find_reason(error)}: --compile no trains it as it is"
        ) from error


def estimate_seconds(plan: Architecture, spec: TrainingSpec) -> float:
    """About how long a run takes on an H100 without compiling, from its steps and its net alone.

    So the answer is the same when a run is resumed.
    """
    with torch.device("meta"):
        net = nets.build(plan, spec.classes)
        images = torch.empty(2, *spec.image_shape)  # one value a channel is too few for BatchNorm
    convolutions = models.count_layers(net, (nn.Conv2d,))
    with FlopCounterMode(display=False) as counter:
        net(images)
    operations = 3 * counter.get_total_flops() / len(images)  # the gradients of images and of weights cost as much each
    return spec.steps * max(SECONDS_A_CONVOLUTION * convolutions, SECONDS_AN_OPERATION * operations * spec.batch_size)


@cache
def compile_function(function: Callable, mode: str | None) -> Callable[..., Any]:
    """A function compiled for tensors of fixed shapes, once for all nets of an architecture."""
    keep_compiled()
    return torch.compile(function, fullgraph=True, dynamic=False, mode=mode)


def compile_units(units: Sequence[nn.Module], mode: str | None) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """What runs units in training compiled, and else as they are."""
    keep_compiled()
    return [_Compiled(unit, mode) for unit in units]


class _Compiled:
    """A unit that is compiled where gradients are wanted."""

    def __init__(self, unit: nn.Module, mode: str | None):
        self.unit = unit
        self.compiled = torch.compile(unit, fullgraph=True, dynamic=False, mode=mode)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.compiled(x) if torch.is_grad_enabled() else self.unit(x)


def keep_compiled() -> None:
    """Keep what is compiled for the next run, in the user's own cache, and let a function have many shapes."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_home / "mxnet_resnet" / "compiled"))
    name = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, name, VARIANTS)
