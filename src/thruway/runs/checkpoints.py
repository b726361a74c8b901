"""Checkpoints: atomic saves with a fallback to the previous one, and loading that cannot run code.

    checkpoints/<name>.safetensors   tensors
    checkpoints/<name>.state.pt      optimiser state and other state, if any: tensors and plain containers only
    checkpoints/<name>.json          size and SHA-256 of both; written last, and required for a valid checkpoint
    checkpoints/previous/            the same three files of the previous save

The JSON file identifies the other files by hash, and each is looked up in both folders. A process killed at any moment
therefore leaves at least one complete checkpoint. safetensors files contain numbers only; the state is written by
torch.save and loaded with `weights_only=True`, which refuses other objects.
"""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from thruway.errors import CheckpointError, RunError
from thruway.runs.files import (
    file_sha256,
    fsync_folder,
    inside,
    link_or_copy,
    read_json_with_checksum,
    safe_name,
    sync_and_describe,
    temporary,
    write_json_with_checksum,
)

__all__ = [
    "CHECKPOINTS",
    "PREVIOUS",
    "READERS",
    "Checkpoint",
    "checkpoint_names",
    "load_checkpoint",
    "save_checkpoint",
]

FORMAT = 1
CHECKPOINTS, PREVIOUS = "checkpoints", "previous"
SUFFIXES = {"tensors": ".safetensors", "state": ".state.pt"}  # part of a checkpoint -> suffix of its file


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: tensors by name, the other state, and metadata such as time and versions."""

    tensors: dict[str, Tensor]
    state: dict[str, Any] | None
    meta: dict[str, Any]


def save_checkpoint(run: Path, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None) -> None:
    """Save checkpoint `name` in the run folder `run`. The checkpoint that it replaces is kept as the previous one.

    Raises:
        CheckpointError: if it cannot be written, or could not be loaded again. Existing checkpoints are kept.
    """
    safe_name(name, "checkpoint")
    folder, previous = inside(run, CHECKPOINTS), inside(run, CHECKPOINTS, PREVIOUS)
    try:
        previous.mkdir(parents=True, exist_ok=True)
        with temporary(folder) as tensor_file, temporary(folder) as state_file:
            _write_tensors(tensors, tensor_file)
            new = {"tensors": tensor_file}
            if state is not None:
                _write_state(state, state_file)
                new["state"] = state_file
            record = {
                "format": FORMAT,
                "name": name,
                "saved": datetime.now(UTC).isoformat(),
                "torch": torch.__version__,
                "files": {part: sync_and_describe(path) for part, path in new.items()},
            }
            _copy_to_previous(folder, previous, name)
            for part, path in new.items():
                os.replace(path, inside(folder, name + SUFFIXES[part]))
            fsync_folder(folder)
        write_json_with_checksum(inside(folder, f"{name}.json"), record)
        if state is None:
            (folder / (name + SUFFIXES["state"])).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {name!r} was not saved in {folder}: {error.strerror or error}. "
            "Free some space or repair the folder. The previous checkpoint is kept."
        ) from error


def load_checkpoint(run: Path, name: str) -> Checkpoint:
    """Load checkpoint `name`. If it is damaged, the previous save is loaded, with a warning. Tensors are on the CPU.

    Raises:
        CheckpointError: if there is no such checkpoint, or none of its saves is intact.
    """
    safe_name(name, "checkpoint")
    folder = inside(run, CHECKPOINTS)
    if not (folder / f"{name}.json").exists():
        known = ", ".join(checkpoint_names(run)) or "none"
        raise CheckpointError(f"{run} has no checkpoint {name!r}. Available checkpoints: {known}.")
    found, problems = _newest_intact(run, name)
    if problems:  # damaged, or replaced while it was read; a second attempt distinguishes the two
        found, problems = _newest_intact(run, name)
    if found is None:
        raise CheckpointError(
            f"checkpoint {name!r} of {run} cannot be loaded: {'; the previous save: '.join(problems)}. "
            f"Available checkpoints: {', '.join(checkpoint_names(run))}."
        )
    if problems:
        warnings.warn(
            f"checkpoint {name!r} of {run} is damaged: {problems[0]}. "
            f"Loaded the previous save of {found.meta['saved']} instead.",
            RuntimeWarning,
            stacklevel=3,
        )
    return found


def checkpoint_names(run: Path) -> list[str]:
    """Return the names of the complete checkpoints of a run folder, oldest first."""
    folder = inside(run, CHECKPOINTS)
    saved = []
    for path in folder.glob("*.json"):
        try:
            when = str(read_json_with_checksum(path, newest=FORMAT)["saved"])
        except (RunError, KeyError):
            when = ""  # damaged; listed nevertheless, since the previous save may be intact
        saved.append((when, path.stem))
    return [name for _, name in sorted(saved)]


def _newest_intact(run: Path, name: str) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest intact checkpoint, and the problems of newer ones."""
    problems: list[str] = []
    for folder in (inside(run, CHECKPOINTS), inside(run, CHECKPOINTS, PREVIOUS)):
        try:
            return _load(run, inside(folder, f"{name}.json"), name), problems
        except RunError as error:
            problems.append(str(error))
    return None, problems


def _load(run: Path, manifest: Path, name: str) -> Checkpoint:
    meta = read_json_with_checksum(manifest, newest=FORMAT)
    files = meta.get("files")
    if meta.get("name") != name or not isinstance(files, dict) or "tensors" not in files:
        raise CheckpointError(f"{manifest} does not describe checkpoint {name!r}")
    # While a save is being completed, the files of the current json may be in the folder of the previous save.
    folders = dict.fromkeys((manifest.parent, inside(run, CHECKPOINTS, PREVIOUS)))
    state = _load_part(folders, name, "state", files) if "state" in files else None
    return Checkpoint(_load_part(folders, name, "tensors", files), state, meta)


def _load_part(folders: Iterable[Path], name: str, part: str, files: dict[str, Any]) -> Any:
    """Load one part from the first file whose size and hash match the JSON record."""
    reasons = []
    for folder in folders:
        try:
            path = inside(folder, name + SUFFIXES[part])
            before = _file_identity(path)
            if (reason := _mismatch(path, files[part])) is None:
                contents = READERS[part](path)
                if _file_identity(path) == before:
                    return contents
                reason = f"{path} was replaced during loading"
        except RunError as error:
            reason = str(error)
        reasons.append(reason)
    raise CheckpointError(reasons[0])


def _file_identity(path: Path) -> tuple[int, ...]:
    """Return a value that changes when the file at `path` is replaced or modified."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _mismatch(path: Path, expected: Any) -> str | None:
    """Describe how the file differs from the expected size and hash; returns None if it matches."""
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path} has {size:,} bytes instead of {expected['bytes']:,}"
        if file_sha256(path) != expected["sha256"]:
            return f"{path} does not match its SHA-256"
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, TypeError, KeyError, ValueError) as error:
        return f"{path} cannot be checked ({error})"
    return None


def _copy_to_previous(folder: Path, previous: Path, name: str) -> None:
    """Link or copy the current checkpoint, if it is intact, into the folder of the previous save."""
    manifest = inside(folder, f"{name}.json")
    try:
        files = read_json_with_checksum(manifest, newest=FORMAT)["files"]
        paths = {part: inside(folder, name + SUFFIXES[part]) for part in files}
    except (RunError, KeyError):
        return
    if any(_mismatch(path, files[part]) for part, path in paths.items()):
        return
    for path in (*paths.values(), manifest):
        with temporary(previous) as copy:
            link_or_copy(path, copy)
            os.replace(copy, inside(previous, path.name))
    fsync_folder(previous)


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


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
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


def _write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write state with torch.save.

    Raises CheckpointError if the state could not be loaded again, or on a disk error.
    """
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
