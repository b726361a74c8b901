"""Atomic writing of a file."""

import os
from pathlib import Path

from thruway.errors import RunError

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> Path:
    """Write `content` to a temporary file next to `path`, sync it, and rename it to `path`.

    A reader sees either the old file or the complete new one, even after a crash. Missing folders are created.

    Returns:
        `path`.
    Raises:
        RunError: if the file cannot be written; an existing file at `path` is then unchanged.
    """
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot write {str(path)!r}: {error}. Choose a writable folder with enough free space."
        ) from error
    finally:
        # After the rename the temporary file is gone; an unreadable folder has none either.
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
    return path
