"""Reading tensors and state dicts from files without executing code in them."""

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
    """Load a complete state dict into a model.

    Raises:
        ConfigError: if the file cannot be read, or does not fit the model.
    """
    content = read_tensors(path)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ConfigError(f"{path} is not a state dict, a dict of names and tensors.")
    try:
        model.load_state_dict(content)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise ConfigError(f"{path} does not fit {type(model).__name__}: {' '.join(lines)[:400]}") from error


def read_tensors(path: Path) -> Any:
    """Read a tensor or a nested structure of tensors from a .npy, .npz, .safetensors or .pt file.

    Raises:
        ConfigError: if the file is missing, damaged, of an unsupported type, or holds objects that are not tensors.
    """
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: files of tensors end in {', '.join(_READERS)}; got {path.suffix or 'no suffix'}.")
    if not path.is_file():
        raise ConfigError(f"there is no file {path}.")
    try:
        return _READERS[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{path} is not a safetensors file: {_first_line(error)}") from error
    except Exception as error:  # a pickle that torch refuses to load, or not a pickle at all
        raise ConfigError(
            f"{path} is damaged, or holds objects that are not tensors and plain containers, which are not loaded."
        ) from error


def _npy(path: Path) -> Tensor:
    return torch.from_numpy(_load(path))


def _npz(path: Path) -> dict[str, Tensor]:
    with _load(path) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:  # NumPy's message advises to allow pickles, which may execute code
        if "pickle" not in str(error):
            raise
        raise ValueError(f"it is not a {path.suffix} file of numbers") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def _pt(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


# file suffix -> function that reads it
_READERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".pt": _pt, ".pth": _pt}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
