"""Reading a plain or gzipped file without trusting its size.

Everything above asks for a number of bytes known beforehand, so that a damaged header or a gzip bomb
costs an error message and not the machine's memory.
"""

import gzip
import os
import zlib
from pathlib import Path

from thruway.errors import DatasetError

__all__ = ["damaged_file_error", "find_file", "read_at_most", "require_file"]

_CHUNK = 1 << 20


def damaged_file_error(path: str | Path, what: str) -> DatasetError:
    """The error for a file that is there but cannot be right."""
    return DatasetError(f"{path}: {what}. Remove this file and get it again, for instance with download=True.")


def find_file(folder: Path, name: str) -> Path | None:
    """`name` in `folder`, gzipped or plain; None when neither is there."""
    # The gzipped one first: it carries a checksum, and an interrupted unpacking leaves it whole.
    for candidate in (folder / f"{name}.gz", folder / name):
        if os.path.exists(candidate):
            return candidate
    return None


def require_file(folder: Path, name: str) -> Path:
    """The same for a file that was there a moment ago."""
    path = find_file(folder, name)
    if path is None:
        raise DatasetError(f"{folder / name}[.gz] is not there any more. Get the data set again with download=True.")
    return path


def read_at_most(path: Path, cap: int) -> bytearray:
    """The first `cap + 1` bytes of a file, unpacked if its name ends in .gz; all of it, if it is shorter.

    One byte more than allowed, so that the caller can tell "as long as it should be" from "longer".

    Raises:
        DatasetError: if the file cannot be read, or is not valid gzip.
    """
    content = bytearray()
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            while chunk := file.read(min(_CHUNK, cap + 1 - len(content))):
                content += chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged_file_error(path, f"not a whole gzip file ({error})") from error
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}). Check that it is a file and that you may read it."
        ) from error
    return content
