"""Files of PyTorch, an optional extra: state_dicts read and written, as NumPy arrays."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing
from mxnet_resnet.engines.torch import NO_TORCH
from mxnet_resnet.plans.layouts import TORCH_COUNTER

try:
    import torch
except ImportError as error:
    raise UserError(NO_TORCH) from error

WRAPPERS = ("checkpoint", "state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net", "params")


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state_dict, real numbers as float32, out of what training scripts wrap around it.

    No code in the file is run.
    Raises UserError where the file is missing, damaged, holds more than tensors, or no state_dict.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors and is not loaded: that could run code"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        raise UserError(f"{path} is damaged or no PyTorch checkpoint") from error
    content = _unwrapped(content)
    tensors = content if isinstance(content, dict) else {}
    tensors = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no state_dict")
    for name, tensor in tensors.items():
        odd = tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized
        if odd or not (tensor.is_floating_point() or str(name).endswith(TORCH_COUNTER)):
            raise UserError(f"{path}: {name} is no ordinary tensor of real numbers")
    return {str(name).removeprefix("module."): _as_array(tensor.detach()) for name, tensor in tensors.items()}


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _unwrapped(content: object) -> object:
    """What training scripts put into a dictionary under a name of its own."""
    while isinstance(content, dict):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
        if not inner:
            return content
        content = inner[0]
    return content


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state_dict, as .safetensors or as a pickle of tensors."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    with replacing(path) as (temporary,):
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(tensors, temporary)
        else:
            torch.save(tensors, temporary)
