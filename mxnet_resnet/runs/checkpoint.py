"""Checkpoints that all MXNet tools load: ``PREFIX-symbol.json`` and ``PREFIX-0004.params``.

Beside them lie the state of the optimizer, ``PREFIX-0004.state``, and an entry of the ledger, which resuming needs.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

import mxnet as mx

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.runs import ledger, params

Arrays = dict[str, mx.nd.NDArray]


def params_path(prefix: str, epoch: int) -> Path:
    """The file of the parameters after ``epoch`` epochs."""
    return Path(f"{prefix}-{epoch:04d}.params")


def save(prefix: str, epoch: int, symbol: mx.sym.Symbol, arg_params: Arrays, aux_params: Arrays) -> Path:
    """Write the graph and the parameters after ``epoch`` epochs, each file whole or not at all."""
    target = params_path(prefix, epoch)
    with replacing(Path(f"{prefix}-symbol.json"), target) as (symbol_path, arrays_path):
        symbol_path.write_text(symbol.tojson())
        _save_arrays(arrays_path, _prefixed(arg_params, aux_params))
    return target


def save_run(prefix: str, entry: ledger.Entry, symbol: mx.sym.Symbol, params: tuple[Arrays, Arrays], state: Arrays):
    """Write all of a checkpoint, its entry last, so that it counts only when it is whole.

    Raises UserError where the system refuses, or the disk is full.
    """
    paths = [Path(f"{prefix}-symbol.json"), *(ledger.file(prefix, entry.name, suffix) for suffix in ledger.ARRAYS)]
    with replacing(*paths) as (symbol_path, params_path, state_path):
        symbol_path.write_text(symbol.tojson())
        _save_arrays(params_path, _prefixed(*params))
        _save_arrays(state_path, state)
    ledger.write(prefix, entry)


def load_run(prefix: str, entry: ledger.Entry) -> tuple[tuple[Arrays, Arrays], Arrays]:
    """The (parameters, auxiliary states) and the state of the optimizer. Raises UserError where they are damaged."""
    ledger.check(prefix, entry)
    return read_params(ledger.file(prefix, entry.name, "params")), load_state(prefix, entry.name)


def load_state(prefix: str, name: str) -> Arrays:
    """The state of the optimizer. Raises UserError where it is missing or damaged."""
    return load_arrays(ledger.file(prefix, name, "state"))


def digest(*several: Arrays) -> str:
    """SHA-256 of the names and values of arrays."""
    result = hashlib.sha256()
    for arrays in several:
        for name in sorted(arrays):
            result.update(name.encode() + arrays[name].asnumpy().tobytes())
    return result.hexdigest()


def _prefixed(arg_params: Arrays, aux_params: Arrays) -> Arrays:
    arrays = {f"arg:{name}": array for name, array in arg_params.items()}
    return {**arrays, **{f"aux:{name}": array for name, array in aux_params.items()}}


def _save_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays, and see that all of them arrived: MXNet does not notice a full disk."""
    try:
        mx.nd.save(str(path), arrays)
    except mx.base.MXNetError as error:
        raise UserError(f"cannot write {path.parent}: is the disk full?") from error
    try:
        params.check(path)
    except UserError as error:
        raise UserError(f"cannot write {path.parent}: the disk is full") from error


def load_params(prefix: str, epoch: int) -> tuple[Arrays, Arrays]:
    """The arguments and auxiliary states after ``epoch`` epochs. Raises UserError, which lists the epochs there are."""
    path = params_path(prefix, epoch)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: {_there(prefix)}")
    return read_params(path)


def read_params(path: Path) -> tuple[Arrays, Arrays]:
    """The arguments and auxiliary states in a file. Raises UserError where it has others, is missing or damaged."""
    arrays = load_arrays(path)
    if not all(name.startswith(("arg:", "aux:")) for name in arrays):
        raise UserError(f"{path} is not a Module checkpoint: its arrays are not named arg:... and aux:...")
    args = {name[4:]: array for name, array in arrays.items() if name.startswith("arg:")}
    auxs = {name[4:]: array for name, array in arrays.items() if name.startswith("aux:")}
    return args, auxs


def load_arrays(path: Path) -> Arrays:
    """The named arrays of an MXNet parameter file. Raises UserError where it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    params.check(path)
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise UserError(f"{path} is cut short or no MXNet parameter file") from error
    if arrays == []:
        return {}  # how MXNet reads a file of no arrays
    if not isinstance(arrays, dict):
        raise UserError(f"{path} holds arrays without names")
    return arrays


def load_symbol(prefix: str) -> mx.sym.Symbol:
    """The graph of a checkpoint. Raises UserError where it is missing or no graph."""
    path = Path(f"{prefix}-symbol.json")
    if not path.is_file():
        there = ", ".join(_prefixes(path.parent))
        reason = f"the prefixes there are {there}" if there else "the prefix of a checkpoint is its path up to it"
        raise UserError(f"there is no graph {path}: {reason}")
    try:
        symbol = mx.sym.load(str(path))
        names = symbol.list_arguments()
    except (mx.base.MXNetError, ValueError) as error:
        raise UserError(f"{path} is damaged or not an MXNet graph") from error
    if "data" not in names:
        raise UserError(f"{path} is a graph without an input `data`")
    return symbol


def check_writable(prefix: str) -> None:
    """Raise UserError unless checkpoints can be written at ``prefix``."""
    folder = Path(prefix).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write checkpoints to {folder}: {error.strerror}") from error


def check_fit(symbol: mx.sym.Symbol, input_shape: tuple[int, ...], arg_params: Arrays, aux_params: Arrays) -> None:
    """Raise UserError unless the parameters are those of ``symbol`` on ``data`` of ``input_shape`` (N, C, H, W)."""
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=input_shape)
    expected = dict(zip(symbol.list_arguments(), arg_shapes))
    inputs = {name for name in expected if name == "data" or name.endswith("label")}
    expected.update(zip(symbol.list_auxiliary_states(), aux_shapes))
    found = {name: array.shape for name, array in {**arg_params, **aux_params}.items()}
    for name, shape in expected.items():
        if name in inputs:
            continue
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


def load_named(prefix: str, which: str) -> tuple[Arrays, Arrays]:
    """The parameters that ``PREFIX-best.json`` or ``PREFIX-latest.json`` points to. Raises UserError as load_params."""
    name = ledger.best(prefix) if which == "best" else ledger.latest(prefix)
    if name is None:
        raise UserError(f"{prefix}-{which}.json is not there or names no checkpoint: {_there(prefix)}")
    return read_params(ledger.file(prefix, name, "params"))


def _there(prefix: str) -> str:
    epochs = _epochs(prefix)
    return f"the epochs there are {', '.join(map(str, epochs))}" if epochs else "there is none with this prefix"


def _prefixes(folder: Path) -> list[str]:
    ending = "-symbol.json"
    return sorted(str(path)[: -len(ending)] for path in folder.glob(f"*{ending}"))


def _epochs(prefix: str) -> list[int]:
    name = re.compile(re.escape(Path(prefix).name) + r"-(\d{4,})\.params")
    folder = Path(prefix).parent
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(match.group(1)) for match in map(name.fullmatch, (file.name for file in files)) if match)
