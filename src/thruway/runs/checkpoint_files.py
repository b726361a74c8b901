"""The two file formats of a checkpoint, neither of which can run code when it is loaded.

Tensors are stored as safetensors, which contains numbers only. Other state, such as that of the optimiser, is stored
with torch.save and loaded with `weights_only=True`: tensors and plain containers; other objects are refused.
"""

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from thruway.errors import CheckpointError

__all__ = ["READERS", "write_state", "write_tensors"]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a hostile or damaged file can raise almost any exception
        raise CheckpointError(f"{path} is not a valid safetensors file ({error})") from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save never compresses; a compressed entry could expand to any size.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(f"{path} contains compressed entries, which torch.save does not write")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # torch's own message advises switching the protection off.
        raise CheckpointError(
            f"{path} contains objects other than tensors and plain containers, which are never loaded"
        ) from error
    except Exception as error:
        raise CheckpointError(f"{path} is not a valid torch file ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} contains a {type(state).__name__} instead of a dict")
    return state


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors. Raises CheckpointError if a value is not a dense tensor, or on a disk error."""
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_meta:
            raise CheckpointError(
                f"{key!r} is {_kind(tensor)}; a checkpoint stores dense tensors. Put other values into `state`."
            )
        dense = tensor.detach().contiguous()
        # The format does not allow shared memory. Copies of tied parameters can still be loaded into a tied model.
        storage = dense.untyped_storage().data_ptr()
        plain[key] = dense.clone() if storage in storages else dense
        storages.add(storage)
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.torch.save_file(plain, path)
        path.chmod(mode)  # safetensors makes its file readable only by the owner
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"the tensors cannot be written: {error}. The previous checkpoint is kept.") from error


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write state with torch.save. Raises CheckpointError if it could not be loaded again, or on a disk error."""
    try:
        with path.open("wb") as file:  # given a path, torch refuses a name that starts with a dot
            torch.save(dict(state), file)
        # Loaded once now, since a checkpoint that cannot be loaded would be discovered too late.
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"`state` holds {found[1] if found else 'an object'}, which could not be loaded again without running "
            "code. Use only tensors, numbers, strings, lists and dicts, as in state_dict()."
        ) from error
    except RuntimeError as error:
        raise CheckpointError(f"`state` cannot be written: {error}. The previous checkpoint is kept.") from error


def _kind(value: object) -> str:
    return f"a {value.layout} tensor on {value.device}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


READERS: dict[str, Callable[[Path], Any]] = {"tensors": _read_tensors, "state": _read_state}
