"""Tensors out of files that the user names, read without running what they hold."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from thruway.errors import ConfigError

__all__ = ["load_weights", "read_tensors"]


def load_weights(model: nn.Module, path: Path) -> None:
    """A state dict into a model, every tensor of it.

    Raises:
        ConfigError: if the file cannot be read, or is of another model.
    """
    held = read_tensors(path)
    if not isinstance(held, dict) or not all(isinstance(tensor, Tensor) for tensor in held.values()):
        raise ConfigError(f"{path} holds no state dict: a dict of names and tensors is wanted.")
    try:
        model.load_state_dict(held)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise ConfigError(f"{path} is of another model than {type(model).__name__}: {' '.join(lines)[:400]}") from error


def read_tensors(path: Path) -> Any:
    """What a .npy, .npz, .safetensors or .pt file holds: a tensor, or a structure of tensors.

    Raises:
        ConfigError: if it is not there, damaged, of another kind, or holds other things than tensors.
    """
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: files of tensors end in {', '.join(_READERS)}; got {path.suffix or 'no ending'}.")
    if not path.is_file():
        raise ConfigError(f"there is no file {path}.")
    try:
        return _READERS[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{path} is no safetensors file: {_first_line(error)}") from error
    except Exception as error:  # torch's own refusal to run what a pickle says, and what is no pickle either
        raise ConfigError(
            f"{path} is damaged, or holds other things than tensors and plain containers, which are not read."
        ) from error


def _npy(path: Path) -> Tensor:
    return torch.from_numpy(_load(path))


def _npz(path: Path) -> dict[str, Tensor]:
    with _load(path) as held:
        return {name: torch.from_numpy(held[name]) for name in held.files}


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:  # whose words are advice to allow what may run code
        if "pickle" not in str(error):
            raise
        raise ValueError(f"it is no {path.suffix} file of numbers") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def _pt(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


# The end of a file's name -> how it is read
_READERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".pt": _pt, ".pth": _pt}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
