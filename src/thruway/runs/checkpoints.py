"""Checkpoints that are whole or absent, and run no code when they are read.

    checkpoints/<name>.safetensors   tensors
    checkpoints/<name>.state.pt      optimiser state and the like, if any (read with weights_only=True)
    checkpoints/<name>.json          size and SHA-256 of both, written last: no json, no checkpoint
    checkpoints/previous/            the same three of the save before, until the next one is complete

A json describes its files by hash, and each is looked for in both places. So there is no moment at
which a kill leaves less than one whole checkpoint.
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
from thruway.runs.files import fsync_folder, inside, read_sealed, safe_name, temporary, write_sealed

__all__ = ["CHECKPOINTS", "PREVIOUS", "Checkpoint", "checkpoint_names", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
CHECKPOINTS, PREVIOUS = "checkpoints", "previous"
SUFFIXES = {"tensors": ".safetensors", "state": ".state.pt"}  # part of a checkpoint -> end of its file name


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: tensors by name, the state beside them, and when and by which versions."""

    tensors: dict[str, Tensor]
    state: dict[str, Any] | None
    meta: dict[str, Any]


def save_checkpoint(run: Path, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any] | None) -> None:
    """Write checkpoint `name` of the run folder `run`; the one it replaces is kept as the previous.

    Raises:
        CheckpointError: if it cannot be written, or could not be read again. What was there still is.
    """
    safe_name(name, "checkpoint")
    folder, previous = inside(run, CHECKPOINTS), inside(run, CHECKPOINTS, PREVIOUS)
    try:
        previous.mkdir(parents=True, exist_ok=True)
        with temporary(folder) as tensor_file, temporary(folder) as state_file:
            write_tensors(tensors, tensor_file)
            fresh = {"tensors": tensor_file}
            if state is not None:
                write_state(state, state_file)
                fresh["state"] = state_file
            record = {
                "format": FORMAT,
                "name": name,
                "saved": datetime.now(UTC).isoformat(),
                "torch": torch.__version__,
                "files": {part: _synced(path) for part, path in fresh.items()},
            }
            _keep(folder, previous, name)
            for part, path in fresh.items():
                os.replace(path, inside(folder, name + SUFFIXES[part]))
            fsync_folder(folder)
        write_sealed(inside(folder, f"{name}.json"), record)
        if state is None:
            (folder / (name + SUFFIXES["state"])).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {name!r} was not saved in {folder}: {error.strerror or error}. "
            "Make room or mend the folder; the checkpoint before it is kept."
        ) from error


def load_checkpoint(run: Path, name: str) -> Checkpoint:
    """Checkpoint `name`, or with a warning the save before it if that one is damaged. Tensors are on the CPU.

    Raises:
        CheckpointError: if there is none, or no good one.
    """
    safe_name(name, "checkpoint")
    folder = inside(run, CHECKPOINTS)
    if not (folder / f"{name}.json").exists():
        known = ", ".join(checkpoint_names(run)) or "none"
        raise CheckpointError(f"{run} has no checkpoint {name!r}. Checkpoints there: {known}.")
    found, wrong = _newest_good(run, name)
    if wrong:  # damaged, or replaced while we were reading: a second look tells
        found, wrong = _newest_good(run, name)
    if found is None:
        raise CheckpointError(
            f"checkpoint {name!r} of {run} cannot be loaded: {'; the save before it: '.join(wrong)}. "
            f"Checkpoints there: {', '.join(checkpoint_names(run))}."
        )
    if wrong:
        warnings.warn(
            f"checkpoint {name!r} of {run} is damaged: {wrong[0]}. "
            f"Loaded is the save before it, of {found.meta['saved']}.",
            RuntimeWarning,
            stacklevel=3,
        )
    return found


def checkpoint_names(run: Path) -> list[str]:
    """The complete checkpoints of a run folder, oldest first."""
    folder = inside(run, CHECKPOINTS)
    saved = []
    for path in folder.glob("*.json"):
        try:
            when = str(read_sealed(path, newest=FORMAT)["saved"])
        except (RunError, KeyError):
            when = ""  # damaged: named all the same, since the save before it may be good
        saved.append((when, path.stem))
    return [name for _, name in sorted(saved)]


def _newest_good(run: Path, name: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and what is wrong with newer ones."""
    wrong: list[str] = []
    for place in (inside(run, CHECKPOINTS), inside(run, CHECKPOINTS, PREVIOUS)):
        try:
            return _load(run, inside(place, f"{name}.json"), name), wrong
        except RunError as error:
            wrong.append(str(error))
    return None, wrong


def _load(run: Path, manifest: Path, name: str) -> Checkpoint:
    meta = read_sealed(manifest, newest=FORMAT)
    files = meta.get("files")
    if meta.get("name") != name or not isinstance(files, dict) or "tensors" not in files:
        raise CheckpointError(f"{manifest} does not describe checkpoint {name!r}")
    # While a save is being completed, the file of the current json already stands with the previous ones.
    places = dict.fromkeys((manifest.parent, inside(run, CHECKPOINTS, PREVIOUS)))
    state = _part(places, name, "state", files) if "state" in files else None
    return Checkpoint(_part(places, name, "tensors", files), state, meta)


def _part(places: Iterable[Path], name: str, part: str, files: dict[str, Any]) -> Any:
    """What is in the file that the json means: the one with its size and hash."""
    reasons = []
    for place in places:
        try:
            path = inside(place, name + SUFFIXES[part])
            before = _identity(path)
            if (reason := _mismatch(path, files[part])) is None:
                contents = READERS[part](path)
                if _identity(path) == before:
                    return contents
                reason = f"{path} was replaced while it was read"
        except RunError as error:
            reason = str(error)
        reasons.append(reason)
    raise CheckpointError(reasons[0])


def _identity(path: Path) -> tuple[int, ...]:
    """Differs when the file at `path` is another one, or was written to."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _mismatch(path: Path, described: Any) -> str | None:
    """How the file differs from its description; None if it does not."""
    try:
        size = path.stat().st_size
        if size != described["bytes"]:
            return f"{path} has {size:,} bytes instead of {described['bytes']:,}"
        if _sha256(path) != described["sha256"]:
            return f"{path} does not match its SHA-256"
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, TypeError, KeyError, ValueError) as error:
        return f"{path} cannot be checked ({error})"
    return None


def _synced(path: Path) -> dict[str, Any]:
    """Bring a file to disk, and describe it as it reads back."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _keep(folder: Path, previous: Path, name: str) -> None:
    """Let the present checkpoint, if it is good, also stand as the previous one."""
    manifest = inside(folder, f"{name}.json")
    try:
        files = read_sealed(manifest, newest=FORMAT)["files"]
        paths = {part: inside(folder, name + SUFFIXES[part]) for part in files}
    except (RunError, KeyError):
        return
    if any(_mismatch(path, files[part]) for part, path in paths.items()):
        return
    for path in (*paths.values(), manifest):
        with temporary(previous) as second:
            _link(path, second)
            os.replace(second, inside(previous, path.name))
    fsync_folder(previous)


def _link(path: Path, second: Path) -> None:
    try:
        os.link(path, second)
    except OSError:  # no hard links here
        shutil.copyfile(path, second)
        _synced(second)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
