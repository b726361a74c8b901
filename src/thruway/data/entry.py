"""Record types of the data set table: `Entry` describes a data set, `Raw` holds what reading it returns.

An entry contains names, shapes, counts, folders, checksums and the function that reads the files. To add a data set,
add an entry to `datasets.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

__all__ = ["Entry", "Part", "Raw", "Remote"]


@dataclass(frozen=True)
class Raw:
    """One part of a data set as stored in its files, unscaled."""

    images: Tensor  # uint8, (N, C, H, W)
    labels: Tensor  # int64, (N,)
    classes: tuple[str, ...]
    where: str  # folder or file it was read from

    def __repr__(self) -> str:
        return f"Raw(images={tuple(self.images.shape)}, {len(self.classes)} classes, where={self.where!r})"


@dataclass(frozen=True)
class Remote:
    """A file to download: its path below the data root, its size and its checksum."""

    path: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Part:
    """The training or test part of a data set: its files and its number of images."""

    files: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()  # allowed numbers of images; several if editions differ


@dataclass(frozen=True)
class Entry:
    """One entry of the table of data sets."""

    name: str
    title: str  # as written in text
    origin: str  # authors, reference, licence
    read: "Callable[[Entry, Path, bool], Raw]"  # (entry, folder, train)
    train: Part
    test: Part
    classes: tuple[str, ...] = ()  # in the order of the labels; empty if determined by the files
    shape: tuple[int, ...] = ()  # of one image, (C, H, W); empty if determined by the files
    top: int = 255  # maximum pixel value, scaled to 1
    folders: tuple[str, ...] = ()  # candidate folders below a data root; empty if no files are needed
    mirrors: tuple[str, ...] = ()  # URL prefixes; the file name of a remote is appended
    remotes: tuple[Remote, ...] = ()  # the files, or one archive that contains them
    package: str = ""  # Debian package that installs the data set

    def part(self, train: bool) -> Part:
        """Return the training part if `train` is True, otherwise the test part."""
        return self.train if train else self.test
