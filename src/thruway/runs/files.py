"""Files that are either the old one or the new one, and names that stay inside the run folder.

A file is written beside its place, synced, and renamed over it; a JSON record carries its own
SHA-256, so that one flipped bit is found instead of believed.
"""

import hashlib
import json
import math
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thruway.errors import RunError

__all__ = [
    "TEMPORARY",
    "fsync_folder",
    "inside",
    "plain_json",
    "read_sealed",
    "safe_name",
    "temporary",
    "write_sealed",
]

TEMPORARY = ".tmp-"  # safe_name refuses a leading dot, so nothing the user names can look like this
NAME_BYTES = 200  # file systems stop at 255; room for a suffix
_NAME = re.compile(r"\w(?:[\w .+=@,()-]*[\w+=@)-])?")


def safe_name(name: str, kind: str) -> str:
    """`name`, if it can name one file in a folder and nothing else.

    Letters and digits of any script, and space . _ + - = @ , ( ) inside; no separator, no control
    character, no leading or trailing dot, at most 200 bytes.

    Raises:
        RunError: naming what came.

    >>> safe_name("highway2015.depth", "run")
    'highway2015.depth'
    """
    allowed = (
        f"A {kind} name is letters, digits and ' .+-=@,()_', starts with a letter or digit, {NAME_BYTES} bytes at most."
    )
    if not isinstance(name, str):
        raise RunError(f"the {kind} name {name!r} is not text. {allowed}")
    # NFKC turns look-alikes such as a full-width slash into what they imitate.
    if unicodedata.normalize("NFKC", name) != name or not _NAME.fullmatch(name):
        raise RunError(f"the {kind} name {name[:80]!r} is not allowed. {allowed}")
    if len(name.encode()) > NAME_BYTES:
        raise RunError(f"the {kind} name {name[:40]!r}... has {len(name.encode())} bytes. {allowed}")
    return name


def inside(folder: Path, *parts: str) -> Path:
    """`folder / parts`, refused when one of the parts is a symbolic link out of the run."""
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise RunError(f"{path} is a symbolic link. A run folder holds its own files: put the file itself there.")
    return path


def fsync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder, and say so; the rename itself still is atomic.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """A fresh name in `folder`, whose file is gone afterwards unless it was renamed."""
    path = folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_sealed(path: Path, record: dict[str, Any]) -> None:
    """Replace the JSON file at `path` by `record` and its checksum, at once or not at all."""
    sealed = {**record, "checksum": _checksum(record)}
    text = json.dumps(sealed, indent=2, allow_nan=False) + "\n"
    with temporary(path.parent) as fresh:
        with fresh.open("xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    fsync_folder(path.parent)


def read_sealed(path: Path, *, newest: int) -> dict[str, Any]:
    """The record that `write_sealed` wrote.

    Raises:
        RunError: if the file is missing, damaged, or of a format later than `newest`.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path} does not exist. Check the folder; a run folder holds run.json.") from None
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror or error}. Check the folder; a run folder holds run.json."
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
        seal = record.pop("checksum")
        if seal != _checksum(record):
            raise ValueError("its contents do not match its checksum")
    except (ValueError, KeyError, RecursionError) as error:
        reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path} is damaged or was edited by hand: {reason}. Put back a copy of it.") from error
    return record


def plain_json(value: Any, what: str) -> Any:
    """`value` as JSON would give it back (tuples become lists), sharing nothing with it.

    Raises:
        RunError: with the place of the first value that strict JSON cannot hold.

    >>> plain_json({"depths": (10, 20)}, "config")
    {'depths': [10, 20]}
    """
    try:
        return _plain(value, what)
    except RecursionError:
        raise RunError(f"{what} is nested too deeply, or holds itself. Flatten it.") from None


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
                raise RunError(f"{where} has the key {key!r}; JSON keys are text. Write {str(key)!r}.")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise RunError(
        f"{where} is {value!r} ({type(value).__name__}), which strict JSON cannot hold. "
        "Allowed: None, bool, int, finite float, str, and lists and dicts of them."
    )


def _checksum(record: dict[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _no_constant(literal: str) -> None:
    raise ValueError(f"it holds {literal}, which is not JSON")
