"""A whole data set in memory, as tensors on the device that trains.

The papers' data sets fit, and one copy at the start is cheaper than a worker process per loader.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.errors import ConfigError, DatasetError

__all__ = ["TensorSet"]


@dataclass(frozen=True, eq=False)
class TensorSet:
    """Images with their labels, all on one device.

    >>> from thruway.data import load
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

        >>> from thruway.data import load
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

        >>> from thruway.data import load
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

        >>> from thruway.data import load
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
