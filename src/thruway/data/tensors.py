"""A whole data set in memory, as tensors on the device that trains.

The papers' data sets fit, and one copy at the start is cheaper than a worker process per loader.
"""

import dataclasses
import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.data.download import Progress
from thruway.data.reading import read
from thruway.data.table import dataset
from thruway.errors import ConfigError, DatasetError

__all__ = ["TensorSet", "load"]


@dataclass(frozen=True, eq=False)
class TensorSet:
    """Images with their labels, all on one device.

    >>> test = load("digits", train=False)
    >>> len(test), test.images.shape, test.labels[:3].tolist(), test.classes[7]
    (382, torch.Size([382, 1, 8, 8]), [0, 1, 2], '7')
    """

    name: str
    images: Tensor  # float32, (N, C, H, W) in [0, 1], or what standardised() and flat() make of it
    labels: Tensor  # int64, (N,)
    classes: tuple[str, ...]
    source: str  # where it was read from

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(
                f"{self.name}: {len(self.images)} images but {len(self.labels)} labels. Each image needs one label."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def moments(self) -> tuple[float, float]:
        """The mean and the standard deviation over all pixels of all images.

        >>> mean, std = load("digits").moments()
        >>> f"{mean:.3f} {std:.3f}"
        '0.305 0.376'
        """
        std, mean = torch.std_mean(self.images, correction=0)
        return mean.item(), std.item()

    def standardised(self, mean: float | None = None, std: float | None = None) -> "TensorSet":
        """The set with every pixel shifted by `mean` and divided by `std`, one number each for all pixels.

        Args:
            mean, std: give the training part's `moments()` to its test part; without them, its own.
        Raises:
            ConfigError: if std is not a positive number, or if all pixels are equal and none was given.

        >>> train, test = load("digits"), load("digits", train=False)
        >>> test = test.standardised(*train.moments())
        >>> round(abs(train.standardised().images.mean().item()), 4)
        0.0
        """
        own_mean, own_std = self.moments() if mean is None or std is None else (mean, std)
        mean, std = own_mean if mean is None else mean, own_std if std is None else std
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ConfigError(
                f"cannot standardise {self.name} with mean={mean}, std={std}: both must be finite and std above 0. "
                "Pass the moments() of a training part whose pixels differ."
            )
        return dataclasses.replace(self, images=(self.images - mean).div_(std))

    def flat(self) -> "TensorSet":
        """The set with each image as one row, (N, C*H*W), as fully connected nets take it.

        >>> load("digits").flat().images.shape
        torch.Size([1415, 64])
        """
        return dataclasses.replace(self, images=self.images.flatten(1))

    def to(self, device: torch.device | str) -> "TensorSet":
        """The set on another device."""
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels at `indices`, which may come from `batches()` on any device."""
        where = indices.to(self.labels.device)
        return self.images[where], self.labels[where]


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
