"""Where data may lie on this machine, and the error for data that is nowhere."""

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
    named = os.environ.get(VARIABLE, "")
    return [_path(place) for place in (named, CACHE) if place]


def search_roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The data roots that are searched, in order.

    A root that is given is the only one: whoever names a folder means that folder. Without one:
    $THRUWAY_DATA, then ~/.cache/thruway/data, then where Debian installs data sets.

    >>> [str(place) for place in search_roots("shelf")]
    ['shelf']
    """
    return [_path(root)] if root is not None else [*_writable_roots(), Path(DEBIAN)]


def download_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Where a download goes: the given root, else $THRUWAY_DATA, else ~/.cache/thruway/data."""
    return _path(root) if root is not None else _writable_roots()[0]


def locate(entry: Entry, train: bool, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The first folder that holds every file of the part; None when no folder does."""
    for place in search_roots(root):
        for below in entry.folders:
            folder = place / below
            if all(find_file(folder, name) for name in entry.part(train).files):
                return folder
    return None


def not_found_error(entry: Entry, train: bool, root: str | os.PathLike[str] | None = None) -> DatasetError:
    """The error that says where a data set was looked for and how to get it."""
    looked = [_finding(place / below, entry, train) for place in search_roots(root) for below in entry.folders]
    ways = []
    if entry.remotes:
        megabytes = sum(remote.size for remote in entry.remotes) / 1e6
        ways.append(
            f"download it with download=True ({megabytes:.0f} MB, to {download_root(root)}), in a command --download"
        )
    if entry.package:
        remark = "" if root is None else " and leave the data root out"
        ways.append(f"on Debian, apt install {entry.package}{remark}")
    ways.append(
        f"name the folder above {' or '.join(filter(None, entry.folders)) or 'train and test'} that has it: "
        f"root=, --data-root or ${VARIABLE}"
    )
    return DatasetError(
        f"{entry.title} ({'training' if train else 'test'} part) is not here. Looked in: {'; '.join(looked)}. "
        f"To get it: {'; or '.join(ways)}."
    )


def _finding(folder: Path, entry: Entry, train: bool) -> str:
    """What was found in a folder where the data might have been."""
    absent = [name for name in entry.part(train).files if find_file(folder, name) is None]
    found = f"{folder} (no such folder)" if not os.path.isdir(folder) else f"{folder} (lacks {', '.join(absent)})"
    pickled = folder.with_name(folder.name.replace("-batches-bin", "-batches-py").replace("-binary", "-python"))
    if pickled != folder and os.path.isdir(pickled):
        found += f", but {pickled.name} is a pickle, which can run code: the binary edition is needed"
    return found


def _path(place: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(place))
