"""Files of a run folder: atomic writes, JSON records with a checksum, and names restricted to the folder.

A file is written under a temporary name, synced, and renamed to its final name, so readers see either the old or the
new contents. A JSON record contains its own SHA-256, so that a single flipped bit is detected.
"""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thruway.errors import RunError

__all__ = [
    "TEMPORARY",
    "file_sha256",
    "fsync_folder",
    "inside",
    "link_or_copy",
    "plain_json",
    "read_json_with_checksum",
    "safe_name",
    "sync_and_describe",
    "temporary",
    "write_atomically",
    "write_json_with_checksum",
]

TEMPORARY = ".tmp-"  # safe_name refuses a leading dot, so no name chosen by the user starts like this
NAME_BYTES = 200  # most file systems allow 255; leaves room for a suffix
_NAME = re.compile(r"\w(?:[\w .+=@,()-]*[\w+=@)-])?")


def safe_name(name: str, kind: str) -> str:
    """Return `name` if it is a valid name of a file in a folder.

    Letters and digits of any script are allowed and, except at the start, space . _ + - = @ , ( ). Separators, control
    characters, a leading or trailing dot, and names of more than 200 bytes are not allowed.

    Raises:
        RunError: if the name is not allowed.

    >>> safe_name("highway2015.depth", "run")
    'highway2015.depth'
    """
    allowed = (
        f"A {kind} name consists of letters, digits and ' .+-=@,()_', starts with a letter or digit, and has at most "
        f"{NAME_BYTES} bytes."
    )
    if not isinstance(name, str):
        raise RunError(f"the {kind} name {name!r} is not a string. {allowed}")
    # NFKC normalisation maps look-alikes, such as a full-width slash, to the characters they resemble.
    if unicodedata.normalize("NFKC", name) != name or not _NAME.fullmatch(name):
        raise RunError(f"the {kind} name {name[:80]!r} is not allowed. {allowed}")
    if len(name.encode()) > NAME_BYTES:
        raise RunError(f"the {kind} name {name[:40]!r}... has {len(name.encode())} bytes. {allowed}")
    return name


def inside(folder: Path, *parts: str) -> Path:
    """Return `folder / parts`. Raises RunError if one of the parts is a symbolic link."""
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise RunError(
                f"{path} is a symbolic link, which is not allowed in a run folder. Replace it by the file itself."
            )
    return path


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, on systems that support it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems raise an error when a folder is synced; the rename itself is still atomic.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary(folder: Path, prefix: str = TEMPORARY) -> Iterator[Path]:
    """Yield a new path in `folder`. The file is removed at the end unless it has been renamed."""
    path = folder / f"{prefix}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file atomically: readers see either the old or the complete new contents, even after a crash. Missing
    folders are created.

    Returns:
        `path`.
    Raises:
        RunError: if the file cannot be written. An existing file at `path` is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A resumed run removes files with the other prefix, and a report may be written at the same time.
        _replace(path, content, ".part-")
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot write {str(path)!r}: {error}. Choose a writable folder with enough free space."
        ) from error
    return path


def _replace(path: Path, content: bytes, prefix: str = TEMPORARY) -> None:
    with temporary(path.parent, prefix) as new:
        with new.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)


def sync_and_describe(path: Path) -> dict[str, Any]:
    """Sync a file to disk and return its size and hash."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def link_or_copy(path: Path, copy: Path) -> None:
    """Make `copy` a hard link to the file at `path`, or a copy if hard links are not supported."""
    try:
        os.link(path, copy)
    except OSError:  # the file system does not support hard links
        shutil.copyfile(path, copy)
        sync_and_describe(copy)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json_with_checksum(path: Path, record: dict[str, Any]) -> None:
    """Atomically replace the JSON file at `path` by `record` and its checksum."""
    checked = {**record, "checksum": _checksum(record)}
    _replace(path, (json.dumps(checked, indent=2, allow_nan=False) + "\n").encode())
    fsync_folder(path.parent)


def read_json_with_checksum(path: Path, *, newest: int) -> dict[str, Any]:
    """Read a record written by `write_json_with_checksum`.

    Raises:
        RunError: if the file is missing or damaged, or its format is newer than `newest`.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path} does not exist. Check the folder; a run folder contains run.json.") from None
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror or error}. Check the folder; a run folder contains run.json."
        ) from error
    try:
        record = json.loads(text, parse_constant=_no_constant)
        if not isinstance(record, dict):
            raise ValueError("it is not a JSON object")
        version = record["format"]
        if isinstance(version, int) and version > newest:
            raise RunError(
                f"{path} has format {version}, and this Thruway reads up to {newest}. "
                "Install the newer Thruway that wrote it."
            )
        checksum = record.pop("checksum")
        if checksum != _checksum(record):
            raise ValueError("its contents do not match its checksum")
    except (ValueError, KeyError, RecursionError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path} is damaged or was edited by hand: {reason}. Restore it from a copy.") from error
    return record


def plain_json(value: Any, what: str) -> Any:
    """Return a copy of `value` as it would be after a round trip through JSON (tuples become lists).

    Raises:
        RunError: if strict JSON cannot represent a value; the message names its position.

    >>> plain_json({"depths": (10, 20)}, "config")
    {'depths': [10, 20]}
    """
    try:
        return _plain(value, what)
    except RecursionError:
        raise RunError(f"{what} is nested too deeply, or contains itself. Flatten it.") from None


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise RunError(f"{where} has the key {key!r}; JSON keys are strings. Write {str(key)!r}.")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise RunError(
        f"{where} is {value!r} ({type(value).__name__}), which strict JSON cannot represent. "
        "Allowed: None, bool, int, finite float, str, and lists and dicts of them."
    )


def _checksum(record: dict[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _no_constant(literal: str) -> None:
    raise ValueError(f"it contains {literal}, which is not JSON")
