"""What one row of the table of data sets says, and what reading it gives.

A row holds facts only: names, shapes, counts, places, checksums, and the function that reads the
files. To add a data set, add a row to `table.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

__all__ = ["Entry", "Part", "Raw", "Remote"]


@dataclass(frozen=True)
class Raw:
    """A part of a data set as it lies in its files, not yet scaled."""

    images: Tensor  # uint8, (N, C, H, W)
    labels: Tensor  # int64, (N,)
    classes: tuple[str, ...]
    where: str  # the folder or file it was read from


@dataclass(frozen=True)
class Remote:
    """A file to download: where it goes below a data root, and how to know that it is the right one."""

    path: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Part:
    """The training or the test part: its files, and how many images it may hold."""

    files: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()  # more than one where editions of the set differ


@dataclass(frozen=True)
class Entry:
    """One row: a data set Thruway knows by name."""

    name: str
    title: str  # how people write it
    origin: str  # who made it, where it is described, licence
    read: "Callable[[Entry, Path, bool], Raw]"  # (entry, folder, train)
    train: Part
    test: Part
    classes: tuple[str, ...] = ()  # empty: the files tell
    shape: tuple[int, ...] = ()  # of one image, (C, H, W); empty: the files tell
    top: int = 255  # the value that stands for full ink or light
    folders: tuple[str, ...] = ()  # where it may lie below a data root; empty: it is embedded
    mirrors: tuple[str, ...] = ()  # addresses that a remote's file name is added to
    remotes: tuple[Remote, ...] = ()  # the files themselves, or one archive that holds them
    package: str = ""  # the Debian package that installs it

    def part(self, train: bool) -> Part:
        """The training part, or the test part."""
        return self.train if train else self.test
