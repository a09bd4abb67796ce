"""Files of PyTorch, an optional extra: state_dicts read and written, as NumPy arrays."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.pickles import check_pickle
from mxnet_resnet.base.reasons import lacks_memory
from mxnet_resnet.engines.torch import NO_TORCH
from mxnet_resnet.plans.layouts import TORCH_COUNTER

try:
    import torch
except ImportError as error:
    raise UserError(NO_TORCH) from error

WRAPPERS = ("checkpoint", "state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net", "params")
ARCHITECTURE = "mxnet_resnet.architecture"  # what a plan is called among the metadata of a file

MOST_AMPLIFIED, ALWAYS = 4, 1 << 20  # bytes in memory by those of a file (8-bit numbers become float32), and at least
LONGEST_NAME = 1000
BEFORE_VALUES = 4  # pickles of a file of PyTorch before 1.6: what it is, its version, the system, the content


class StateDict(NamedTuple):
    """The arrays of a state_dict by name, and the plan of the net as JSON where the file has one."""

    arrays: dict[str, np.ndarray]
    architecture: str | None


def load(path: Path) -> StateDict:
    """A state_dict, real numbers as float32, out of what training scripts wrap around it.

    No code in the file is run, and what kind of file it is is told by its first bytes.
    Raises UserError where the file is missing, damaged, holds more than tensors, or no state_dict.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    sources.check_readable(path, "")
    most = MOST_AMPLIFIED * path.stat().st_size + ALWAYS  # bytes that it may stand for
    try:
        _check_packing(path, most)
        content, architecture = _load_safetensors(path) if _is_safetensors(path) else _load_pickle(path)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors and is not loaded: that could run code"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        if lacks_memory(error):
            raise
        raise UserError(f"{path} is damaged or no PyTorch checkpoint") from error
    tensors = content if isinstance(content, dict) else {}
    tensors = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no state_dict")
    if any(len(str(name)) > LONGEST_NAME for name in tensors):
        raise UserError(f"{path} has names of more than {LONGEST_NAME:,} letters, and a net has none")
    for name, tensor in tensors.items():
        odd = tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized
        if odd or not (tensor.is_floating_point() or str(name).endswith(TORCH_COUNTER)):
            raise UserError(f"{path}: {name} is no ordinary tensor of real numbers")
    if sum(tensor.numel() for tensor in tensors.values()) * np.dtype(np.float32).itemsize > most:
        raise UserError(f"{path} holds tensors that claim more values than the file has")
    arrays = {str(name): _as_array(tensor.detach()) for name, tensor in tensors.items()}
    return StateDict(_without_common_prefix(arrays), architecture)


def _check_packing(path: Path, most: int) -> None:
    """Raise UserError for a zip file that unpacks to more than ``most`` bytes, as PyTorch's own do not, and
    UnpicklingError for a pickle that stands for too much.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(BEFORE_VALUES if not _is_safetensors(path) else 0):
                check_pickle(file)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > most:
            raise UserError(f"{path} unpacks to {size:,} bytes, too many for its size")
        for member in members:
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as file:
                    check_pickle(file)


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors: with the length of a JSON object, and that."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(10)[8:] == b'{"'


def _load_safetensors(path: Path) -> tuple[object, str | None]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = file.keys()  # it is no dictionary, and not to be gone through itself
        return {name: file.get_tensor(name) for name in names}, (file.metadata() or {}).get(ARCHITECTURE)


def _load_pickle(path: Path) -> tuple[object, str | None]:
    content = _unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    metadata = getattr(content, "_metadata", None)
    architecture = metadata.get(ARCHITECTURE) if isinstance(metadata, dict) else None
    return content, architecture if isinstance(architecture, str) else None


def _without_common_prefix(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without what wrappers put before all names: ``module.`` of parallel nets, ``model.`` of Lightning."""
    while len({name.partition(".")[0] for name in arrays}) == 1 and all(name.partition(".")[2] for name in arrays):
        arrays = {name.partition(".")[2]: array for name, array in arrays.items()}
    return arrays


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _unwrapped(content: object) -> object:
    """What training scripts put into a dictionary under a name of its own."""
    for _ in WRAPPERS:  # one may hold another, and in a hostile file itself
        given = content if isinstance(content, dict) else {}
        inner = [given[key] for key in WRAPPERS if isinstance(given.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    return content


def save(path: Path, arrays: Mapping[str, np.ndarray], architecture: str | None = None) -> None:
    """Write a state_dict, as .safetensors or as a pickle of tensors; ``architecture`` is noted among its metadata."""
    tensors = OrderedDict((name, torch.from_numpy(np.ascontiguousarray(array))) for name, array in arrays.items())
    noted = {ARCHITECTURE: architecture} if architecture else None
    with replacing(path) as (temporary,):
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(tensors, temporary, noted)
        else:
            if noted:
                tensors._metadata = OrderedDict(noted)  # where PyTorch keeps the versions of modules
            torch.save(tensors, temporary)
