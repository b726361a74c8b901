"""From a name to the raw arrays: find the files, download them if asked, read and check them."""

import os
from pathlib import Path

import torch

from thruway.data.data_roots import locate, not_found_error
from thruway.data.datasets import dataset
from thruway.data.download import Progress
from thruway.data.entry import Raw
from thruway.data.obtain import obtain
from thruway.data.tensor_set import TensorSet
from thruway.errors import ConfigError

__all__ = ["load", "read"]


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
        raise not_found_error(entry, train, root)
    return entry.read(entry, folder, train)


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    train: bool = True,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> TensorSet:
    """A data set by name, whole, as float32 images in [0, 1] on `device`.

    Args:
        name: a key of `DATASETS`: digits, mnist, fashion-mnist, kmnist, emnist-<split>, cifar10, cifar100, folder.
        root: the data root, laid out as torchvision does it. Given, it is the only one searched; without
            it $THRUWAY_DATA, then ~/.cache/thruway/data, then Debian's /usr/share/datasets.
        train: the training part, else the test part.
        device: where the tensors go.
        limit: at most so many images, taken evenly over the file, since some sets are sorted by class.
        download: get the data set if it is not there.
        progress: told about downloads, as (file name, bytes so far, bytes in all).
    Returns:
        images (N, C, H, W), labels (N,).
    Raises:
        ConfigError: for a name that is not known, or a limit below 1.
        DatasetError: if the data is missing or damaged, with what to do; never another data set instead.

    >>> load("digits", limit=100).labels.bincount().tolist()
    [8, 11, 10, 12, 11, 12, 7, 10, 10, 9]
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is the number of images to keep: got {limit}, allowed: 1 or more, or None for all.")
    raw = read(name, root, train, download=download, progress=progress)
    images, labels = raw.images, raw.labels
    if limit is not None and limit < len(labels):
        spread = torch.arange(limit) * len(labels) // limit
        images, labels = images[spread], labels[spread]
    # Divided before the move, so that every device gets the same bits.
    scaled = images.float().div_(dataset(name).top)
    return TensorSet(name, scaled.to(device), labels.to(device), raw.classes, raw.where)
