"""A file appears whole or not at all."""

import os
from pathlib import Path

from thruway.errors import RunError

__all__ = ["write_atomically"]


def write_atomically(path: Path, content: bytes) -> Path:
    """Write `content` beside `path`, make it durable, then move it into place.

    A reader, also one that comes after a crash, sees the old file or the new one. Missing folders
    are created.

    Returns:
        `path`.
    Raises:
        RunError: if the file cannot be written; an older one at `path` is then untouched.
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
            f"cannot write {str(path)!r}: {error}. Choose a folder you may write to, with room left."
        ) from error
    finally:
        # After the move there is nothing left to remove; a folder that cannot be read has no part either.
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
    return path
