"""Checkpoints that all MXNet tools load: ``PREFIX-symbol.json`` and ``PREFIX-0004.params``.

Beside them lie the state of the optimizer, ``PREFIX-0004.state``, and an entry of the ledger, which resuming needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.runs import entries, graph, graphcheck, ledger, params

Arrays = dict[str, np.ndarray]
Shape = tuple[int, ...]
GRAPH_ENDING = "-symbol.json"  # of the name of a graph, behind the prefix
PARAMETER, STATISTIC = "arg:", "aux:"  # before the names of arrays in a file


@dataclass(frozen=True)
class Snapshot:
    """What a run has learned, under the names of the published MXNet ResNets.

    Attributes:
        params: weights, biases, gammas and betas.
        statistics: the running means and variances of BatchNorms, the latter biased: over N values, not N - 1.
        momentum: of each parameter, as ``momentum:conv0_weight``; empty before the first step. In MXNet's units, those
            of the weights, m = mu * m - lr * (gradient + wd * weight). SGD adds the new m to the weight, NAG adds
            mu * m - lr * (gradient + wd * weight) with it.
        loss_scale: the (scale, steps since it changed) of float16.
    """

    params: Arrays = field(repr=False)
    statistics: Arrays = field(repr=False)
    momentum: Arrays = field(default_factory=dict, repr=False)
    loss_scale: tuple[float, int] | None = None


def params_path(prefix: str, epoch: int) -> Path:
    """The file of the parameters after ``epoch`` epochs."""
    return Path(f"{prefix}-{epoch:04d}.params")


def graph_path(prefix: str) -> Path:
    """The file of the graph."""
    return Path(f"{prefix}{GRAPH_ENDING}")


def lock_path(prefix: str) -> Path:
    """The file whose lock is that of the prefix, of a run or of another command that writes there."""
    return Path(f"{prefix}-lock")


def save(prefix: str, epoch: int, graph_text: str, parameters: Arrays, statistics: Arrays) -> Path:
    """Write the graph, as MXNet's JSON, and the arrays after ``epoch`` epochs, each file whole or not at all.

    Raises UserError where the system refuses, or the disk is full.
    """
    target = params_path(prefix, epoch)
    with replacing(graph_path(prefix), target) as (graph_file, arrays_file):
        graph_file.write_text(graph_text)
        params.write(arrays_file, _prefixed(parameters, statistics))
    return target


def save_run(prefix: str, entry: entries.Entry, graph_text: str, snapshot: Snapshot) -> None:
    """Write all of a checkpoint, its entry last, so that it counts only when it is whole.

    The entry gets the snapshot's loss scale. Raises UserError where the system refuses, or the disk is full.
    """
    scale = None if snapshot.loss_scale is None else list(snapshot.loss_scale)
    entry = dataclasses.replace(entry, loss_scale=scale)
    paths = [graph_path(prefix), *(entries.file(prefix, entry.name, suffix) for suffix in entries.ARRAYS)]
    with replacing(*paths) as (graph_file, *ready):
        graph_file.write_text(graph_text)
        params.write(ready[0], _prefixed(snapshot.params, snapshot.statistics))
        params.write(ready[1], snapshot.momentum)
        entry = ledger.announce(prefix, entry, dict(zip(entries.ARRAYS, ready)))
    ledger.write(prefix, entry)


def load_run(prefix: str, entry: entries.Entry) -> Snapshot:
    """What `save_run` wrote. Raises UserError where a file of it is missing or damaged."""
    entries.verify(prefix, entry)
    parameters, statistics = read_params(entries.file(prefix, entry.name, "params"))
    scale = None if entry.loss_scale is None else (entry.loss_scale[0], int(entry.loss_scale[1]))
    return Snapshot(parameters, statistics, load_state(prefix, entry.name), scale)


def load_state(prefix: str, name: str) -> Arrays:
    """The momentum of the checkpoint called ``name``. Raises UserError where it is missing or damaged."""
    return load_arrays(entries.file(prefix, name, "state"))


def digest(*several: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names and values of arrays."""
    result = hashlib.sha256()
    for arrays in several:
        for name in sorted(arrays):
            result.update(name.encode() + arrays[name].tobytes())
    return result.hexdigest()


def _prefixed(parameters: Arrays, statistics: Arrays) -> Arrays:
    arrays = {PARAMETER + name: array for name, array in parameters.items()}
    return {**arrays, **{STATISTIC + name: array for name, array in statistics.items()}}


def load_params(prefix: str, epoch: int) -> tuple[Arrays, Arrays]:
    """The (parameters, statistics) after ``epoch`` epochs. Raises UserError, which lists the epochs there are."""
    path = params_path(prefix, epoch)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: {_there(prefix)}")
    return read_params(path)


def read_params(path: Path) -> tuple[Arrays, Arrays]:
    """The (parameters, statistics) in a file. Raises UserError where it has others, is missing or damaged."""
    arrays = load_arrays(path)
    if not all(name.startswith((PARAMETER, STATISTIC)) for name in arrays):
        raise UserError(f"{path} is not a Module checkpoint: its arrays are not named arg:... and aux:...")
    kinds = (PARAMETER, STATISTIC)
    parameters, statistics = (
        {name[len(kind) :]: array for name, array in arrays.items() if name.startswith(kind)} for kind in kinds
    )
    return parameters, statistics


def load_arrays(path: Path) -> Arrays:
    """The named arrays of an MXNet parameter file. Raises UserError where it is missing or damaged, also by what the
    entry of a run says of it, and where a value is not finite.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    entries.check_written(path)
    arrays = params.read(path)
    check_finite(path, arrays)
    return arrays


def check_finite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise UserError where a value of a file is nan or inf: MXNet's ReLU makes zeros of nan, and scores hide it."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{path} has values in {name} that are not finite: take weights from before that")


def load_graph(prefix: str) -> graph.Graph:
    """The graph of a checkpoint. Raises UserError where it is missing or no graph of images."""
    path = graph_path(prefix)
    if not path.is_file():
        there = ", ".join(_prefixes(path.parent))
        reason = f"the prefixes there are {there}" if there else "the prefix of a checkpoint is its path up to it"
        raise UserError(f"there is no graph {path}: {reason}")
    data = sources.read(path, "the graph")
    try:
        found = graph.parse(data.decode())
        graphcheck.check(found)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or not a graph that is read here: {_say(error)}") from error
    if graph.IMAGES not in found.variables:
        raise UserError(f"{path} is a graph without an input `data`")
    return found


def _say(error: ValueError | OSError) -> str:
    """What is wrong with a graph; of what is no JSON or no text, only that."""
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return "it is no JSON"
    return str(error)


def check_fit(expected: Mapping[str, Shape], parameters: Arrays, statistics: Arrays) -> None:
    """Raise UserError unless the arrays have the names and shapes ``expected``, those of a net."""
    found = {name: array.shape for name, array in {**parameters, **statistics}.items()}
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"the checkpoint does not fit the net: it has no {name}, expected with shape {shape}")
        if found[name] != shape:
            raise UserError(f"the checkpoint does not fit the net: {name} has shape {found[name]}, expected {shape}")
    surplus = sorted(found.keys() - expected.keys())
    if surplus:
        raise UserError(f"the checkpoint does not fit the net, which has no {surplus[0]}")


def last_epoch(prefix: str) -> int:
    """The last epoch of which there are parameters, of the latest run if that is known. Raises UserError where there
    are none.
    """
    epochs = [int(name) for name in reversed(ledger.names(prefix)) if name.isdecimal()] or _epochs(prefix)
    if not epochs:
        raise UserError(f"there is no checkpoint {prefix}-0000.params or of any other epoch")
    return epochs[-1]


def find_latest(prefix: str) -> Path:
    """The parameters of the newest checkpoint that is there, also one within an epoch; of the latest run if that is
    known. Raises UserError where there is none.
    """
    for name in ledger.names(prefix):
        path = entries.file(prefix, name, "params")
        if path.is_file():
            return path
    return params_path(prefix, last_epoch(prefix))


def load_named(prefix: str, which: str) -> tuple[Arrays, Arrays]:
    """The (parameters, statistics) that ``PREFIX-best.json`` or ``PREFIX-latest.json`` points to.

    Raises UserError as load_params does.
    """
    name = ledger.best(prefix) if which == "best" else ledger.latest(prefix)
    if name is None:
        raise UserError(f"{prefix}-{which}.json is not there or names no checkpoint: {_there(prefix)}")
    return read_params(entries.file(prefix, name, "params"))


def _there(prefix: str) -> str:
    epochs = _epochs(prefix)
    return f"the epochs there are {', '.join(map(str, epochs))}" if epochs else "there is none with this prefix"


def _prefixes(folder: Path) -> list[str]:
    return sorted(str(path).removesuffix(GRAPH_ENDING) for path in folder.glob(f"*{GRAPH_ENDING}"))


def _epochs(prefix: str) -> list[int]:
    name = re.compile(re.escape(Path(prefix).name) + r"-(\d{4,})\.params")
    folder = Path(prefix).parent
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(match.group(1)) for match in map(name.fullmatch, (file.name for file in files)) if match)
