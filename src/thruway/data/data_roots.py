"""Data roots: the folders searched for data sets, and the error for a data set that is not found."""

import os
from pathlib import Path

from thruway.data.entry import Entry
from thruway.data.files import find_file
from thruway.errors import DatasetError

__all__ = ["download_root", "locate", "not_found_error", "search_roots"]

VARIABLE = "THRUWAY_DATA"
CACHE = "~/.cache/thruway/data"
DEBIAN = "/usr/share/datasets"


def _writable_roots() -> list[Path]:
    configured = os.environ.get(VARIABLE, "")
    return [_path(folder) for folder in (configured, CACHE) if folder]


def search_roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the data roots to search, in order.

    If `root` is given, only that folder is searched. Otherwise: $THRUWAY_DATA, ~/.cache/thruway/data, and Debian's
    /usr/share/datasets.

    >>> [str(folder) for folder in search_roots("datasets")]
    ['datasets']
    """
    return [_path(root)] if root is not None else [*_writable_roots(), Path(DEBIAN)]


def download_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for downloads: `root`, else $THRUWAY_DATA, else ~/.cache/thruway/data."""
    return _path(root) if root is not None else _writable_roots()[0]


def locate(entry: Entry, train: bool, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the first folder that contains every file of the part, or None."""
    for data_root in search_roots(root):
        for below in entry.folders:
            folder = data_root / below
            if all(find_file(folder, name) for name in entry.part(train).files):
                return folder
    return None


def not_found_error(entry: Entry, train: bool, root: str | os.PathLike[str] | None = None) -> DatasetError:
    """Return the error for a data set that was not found: the folders searched, and the ways to get it."""
    searched = [
        _describe(data_root / below, entry, train) for data_root in search_roots(root) for below in entry.folders
    ]
    options = []
    if entry.remotes:
        megabytes = sum(remote.size for remote in entry.remotes) / 1e6
        options.append(f"download it ({megabytes:.0f} MB, to {download_root(root)}) with download=True or --download")
    if entry.package:
        remark = "" if root is None else " and omit the data root"
        options.append(f"on Debian, apt install {entry.package}{remark}")
    options.append(
        f"pass the folder that contains {' or '.join(filter(None, entry.folders)) or 'train and test'} as root=, "
        f"--data-root or ${VARIABLE}"
    )
    return DatasetError(
        f"{entry.title} ({'training' if train else 'test'} part) was not found. Searched: {'; '.join(searched)}. "
        f"To get it: {'; or '.join(options)}."
    )


def _describe(folder: Path, entry: Entry, train: bool) -> str:
    """Describe why a candidate folder does not contain the data."""
    absent = [name for name in entry.part(train).files if find_file(folder, name) is None]
    found = f"{folder} (no such folder)" if not os.path.isdir(folder) else f"{folder} (missing {', '.join(absent)})"
    pickled = folder.with_name(folder.name.replace("-batches-bin", "-batches-py").replace("-binary", "-python"))
    if pickled != folder and os.path.isdir(pickled):
        found += f"; {pickled.name} is there, but it is a pickle, which can run code: get the binary version"
    return found


def _path(folder: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(folder))
