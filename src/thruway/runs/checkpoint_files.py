"""The two file formats of a checkpoint, read without running what they hold.

Tensors are safetensors, which is numbers only. Optimiser state is torch's archive, read with
`weights_only=True`: tensors and plain containers, any other object refused.
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
    except Exception as error:  # whatever is wrong with a hostile or damaged file, the answer is the same
        raise CheckpointError(f"{path} is no safetensors file ({error})") from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save never compresses; a compressed entry could unpack to any size.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise CheckpointError(f"{path} holds compressed entries, which torch.save does not write")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # The message of torch ends in the advice to switch the protection off.
        raise CheckpointError(
            f"{path} holds other things than tensors and plain containers, which are never loaded"
        ) from error
    except Exception as error:
        raise CheckpointError(f"{path} is no torch archive ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__} instead of a dict")
    return state


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError if a value is no dense tensor, or the disk refuses."""
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for key, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_meta:
            raise CheckpointError(
                f"{key!r} is {_kind(tensor)}; a checkpoint holds dense tensors. Put the rest into `state`."
            )
        dense = tensor.detach().contiguous()
        # Tied parameters share memory, which the format forbids; apart they load into a tied model all the same.
        storage = dense.untyped_storage().data_ptr()
        plain[key] = dense.clone() if storage in storages else dense
        storages.add(storage)
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.torch.save_file(plain, path)
        path.chmod(mode)  # safetensors makes its file readable by the owner alone
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"the tensors cannot be written: {error}. The checkpoint before it is kept.") from error


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Raises CheckpointError if `state` could not be read back, or the disk refuses."""
    try:
        with path.open("wb") as file:  # torch names the archive after a path, and refuses one that starts with a dot
            torch.save(dict(state), file)
        # What only fails when it is read fails a day too late.
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"`state` holds {found[1] if found else 'an object'}, which could not be read again without running code. "
            "Keep to tensors, numbers, text, lists and dicts, as in state_dict()."
        ) from error
    except RuntimeError as error:
        raise CheckpointError(f"`state` cannot be written: {error}. The checkpoint before it is kept.") from error


def _kind(value: object) -> str:
    return f"a {value.layout} tensor on {value.device}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


READERS: dict[str, Callable[[Path], Any]] = {"tensors": _read_tensors, "state": _read_state}
