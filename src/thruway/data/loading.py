"""Loading of data sets by name: the entry in the table, raw arrays, or tensors on a device."""

import os
from pathlib import Path

import torch

from thruway.data.data_roots import locate, not_found_error
from thruway.data.datasets import DATASETS
from thruway.data.download import Progress
from thruway.data.entry import Entry, Raw
from thruway.data.obtain import obtain
from thruway.data.tensor_set import TensorSet
from thruway.errors import ConfigError, unknown_name

__all__ = ["dataset", "load", "read"]


def dataset(name: str) -> Entry:
    """Return the entry called `name`.

    Raises:
        ConfigError: if no data set has this name; the message suggests the closest one.

    >>> dataset("fashion-mnist").classes[9]
    'Ankle boot'
    """
    try:
        return DATASETS[name]
    except (KeyError, TypeError):
        raise ConfigError(unknown_name("data set", name, DATASETS)) from None


def read(
    name: str,
    root: str | os.PathLike[str] | None = None,
    train: bool = True,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> Raw:
    """Read the training or test part of a data set, unscaled.

    Args:
        name: a key of `DATASETS`.
        root: data root. Default: search $THRUWAY_DATA, ~/.cache/thruway/data and Debian's /usr/share/datasets.
        train: if True, read the training part, otherwise the test part.
        download: if True, download the data set if it is not found.
        progress: called during downloads as progress(file name, bytes so far, total bytes).
    Raises:
        ConfigError: if `name` is unknown.
        DatasetError: if the data is missing or damaged. There is no fallback to another data set.

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
    """Load one part of a data set into memory, as float32 images in [0, 1] on `device`.

    Args:
        name: a key of `DATASETS`: digits, mnist, fashion-mnist, kmnist, emnist-<split>, cifar10, cifar100, folder.
        root: data root, in torchvision's layout. Default: search $THRUWAY_DATA, ~/.cache/thruway/data and Debian's
            /usr/share/datasets.
        train: if True, load the training part, otherwise the test part.
        device: device of the tensors.
        limit: maximum number of images. They are spread evenly over the file, since some sets are sorted by class.
        download: if True, download the data set if it is not found.
        progress: called during downloads as progress(file name, bytes so far, total bytes).
    Returns:
        A TensorSet with images (N, C, H, W) and labels (N,).
    Raises:
        ConfigError: if `name` is unknown, or `limit` is below 1.
        DatasetError: if the data is missing or damaged. There is no fallback to another data set.

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
    # Scaled before the transfer, so that all devices hold the same bits.
    scaled = images.float().div_(dataset(name).top)
    return TensorSet(name, scaled.to(device), labels.to(device), raw.classes, raw.where)
