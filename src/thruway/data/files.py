"""Size-limited reading of plain and gzipped data files.

Callers pass the number of bytes they expect, so a damaged header or a gzip bomb raises an error instead of exhausting
memory.
"""

import gzip
import os
import zlib
from pathlib import Path

from thruway.errors import DatasetError

__all__ = ["damaged_file_error", "find_file", "read_at_most", "require_file"]

_CHUNK = 1 << 20


def damaged_file_error(path: str | Path, reason: str) -> DatasetError:
    """Return the error for a file that exists but has wrong contents."""
    return DatasetError(f"{path}: {reason}. Delete this file and get it again, for example with download=True.")


def find_file(folder: Path, name: str) -> Path | None:
    """Return the path of `name` in `folder`, gzipped or plain, or None if neither exists."""
    # The gzipped file first: it has a checksum, and interrupted unpacking leaves it intact.
    for candidate in (folder / f"{name}.gz", folder / name):
        if os.path.exists(candidate):
            return candidate
    return None


def require_file(folder: Path, name: str) -> Path:
    """Return the path of a file that was found before. Raises DatasetError if it has been removed since."""
    path = find_file(folder, name)
    if path is None:
        raise DatasetError(f"{folder / name}[.gz] has been removed. Get the data set again with download=True.")
    return path


def read_at_most(path: Path, cap: int) -> bytearray:
    """Read up to `cap + 1` bytes of a file, decompressed if its name ends in .gz.

    The extra byte lets the caller detect a file that is too long.

    Raises:
        DatasetError: if the file cannot be read, or is not valid gzip.
    """
    content = bytearray()
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            while chunk := file.read(min(_CHUNK, cap + 1 - len(content))):
                content += chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged_file_error(path, f"incomplete or invalid gzip file ({error})") from error
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}). Check that it is a file and that you have permission to read it."
        ) from error
    return content
