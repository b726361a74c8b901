"""Checkpoints: atomic saves with a fallback to the previous one, and loading that cannot run code.

    checkpoints/<name>.safetensors   tensors
    checkpoints/<name>.state.pt      optimiser state and other state, if any (loaded with weights_only=True)
    checkpoints/<name>.json          size and SHA-256 of both; written last, and required for a valid checkpoint
    checkpoints/previous/            the same three files of the previous save

The json file identifies its files by hash, and each is searched in both folders. A process killed at any moment
therefore leaves at least one complete checkpoint.
"""

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thruway.errors import CheckpointError, RunError
from thruway.runs.checkpoint_files import READERS, write_state, write_tensors
from thruway.runs.files import (
    fsync_folder,
    inside,
    read_json_with_checksum,
    safe_name,
    temporary,
    write_json_with_checksum,
)

__all__ = ["CHECKPOINTS", "PREVIOUS", "Checkpoint", "checkpoint_names", "load_checkpoint", "save_checkpoint"]

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
    """Save checkpoint `name` in the run folder `run`; the one it replaces is kept as the previous checkpoint.

    Raises:
        CheckpointError: if it cannot be written, or could not be loaded again. Existing checkpoints are kept.
    """
    safe_name(name, "checkpoint")
    folder, previous = inside(run, CHECKPOINTS), inside(run, CHECKPOINTS, PREVIOUS)
    try:
        previous.mkdir(parents=True, exist_ok=True)
        with temporary(folder) as tensor_file, temporary(folder) as state_file:
            write_tensors(tensors, tensor_file)
            new = {"tensors": tensor_file}
            if state is not None:
                write_state(state, state_file)
                new["state"] = state_file
            record = {
                "format": FORMAT,
                "name": name,
                "saved": datetime.now(UTC).isoformat(),
                "torch": torch.__version__,
                "files": {part: _sync_and_describe(path) for part, path in new.items()},
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
    """Load checkpoint `name`, or with a warning the previous save if it is damaged. Tensors are on the CPU.

    Raises:
        CheckpointError: if there is no such checkpoint, or no intact one.
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
    """Load one part from the first file whose size and hash match the json."""
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
    """Describe how the file differs from the expected size and hash, or return None if it matches."""
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{path} has {size:,} bytes instead of {expected['bytes']:,}"
        if _sha256(path) != expected["sha256"]:
            return f"{path} does not match its SHA-256"
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, TypeError, KeyError, ValueError) as error:
        return f"{path} cannot be checked ({error})"
    return None


def _sync_and_describe(path: Path) -> dict[str, Any]:
    """Sync a file to disk and return its size and hash."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


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
            _link_or_copy(path, copy)
            os.replace(copy, inside(previous, path.name))
    fsync_folder(previous)


def _link_or_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # the file system does not support hard links
        shutil.copyfile(path, copy)
        _sync_and_describe(copy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
