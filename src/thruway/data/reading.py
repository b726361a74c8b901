"""From a name to the raw arrays: find the files, download them if asked, read and check them."""

import os
from pathlib import Path

from thruway.data.download import Progress
from thruway.data.entry import Raw
from thruway.data.obtain import obtain
from thruway.data.places import locate, missing
from thruway.data.table import dataset

__all__ = ["read"]


def read(
    name: str,
    root: str | os.PathLike[str] | None = None,
    train: bool = True,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> Raw:
    """One part of a data set, exactly as its files hold it.

    Args:
        name: a key of `DATASETS`.
        root: the data root, the only one searched; without it $THRUWAY_DATA, ~/.cache/thruway/data, Debian's.
        train: the training part, else the test part.
        download: get it if it is not there.
        progress: told about downloads, as (file name, bytes so far, bytes in all).
    Raises:
        ConfigError: if no data set has that name.
        DatasetError: if it is not there, or damaged; nothing else is put in its place.

    >>> raw = read("digits", train=False)
    >>> raw.images.shape, raw.labels[:5].tolist()
    (torch.Size([382, 1, 8, 8]), [0, 1, 2, 3, 4])
    """
    entry = dataset(name)
    if not entry.folders:
        return entry.read(entry, Path(), train)
    folder = locate(entry, train, root)
    if folder is None and download and entry.remotes:
        obtain(entry, root, progress)
        folder = locate(entry, train, root)
    if folder is None:
        raise missing(entry, train, root)
    return entry.read(entry, folder, train)
