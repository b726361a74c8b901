"""An in-memory data set: all images and labels as tensors on one device.

The data sets of the papers fit into memory, and one copy at the start is cheaper than data-loading workers.
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
    """Images and labels on one device.

    >>> from thruway.data import load
    >>> test = load("digits", train=False)
    >>> test
    TensorSet('digits', images=(382, 1, 8, 8), 10 classes, source='embedded in thruway (digits.npz)')
    >>> test.labels[:3].tolist(), test.classes[7]
    ([0, 1, 2], '7')
    """

    name: str
    images: Tensor  # float32, (N, C, H, W) in [0, 1]; other ranges and shapes after standardised() and flat()
    labels: Tensor  # int64, (N,)
    classes: tuple[str, ...]
    source: str  # folder or file it was read from

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(
                f"{self.name}: {len(self.images)} images but {len(self.labels)} labels. The numbers must be equal."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        device = "" if self.images.device.type == "cpu" else f", device='{self.images.device}'"
        return (
            f"TensorSet({self.name!r}, images={tuple(self.images.shape)}, {len(self.classes)} classes, "
            f"source={self.source!r}{device})"
        )

    def moments(self) -> tuple[float, float]:
        """Return the mean and the standard deviation over all pixels of all images.

        >>> from thruway.data import load
        >>> mean, std = load("digits").moments()
        >>> f"{mean:.3f} {std:.3f}"
        '0.305 0.376'
        """
        std, mean = torch.std_mean(self.images, correction=0)
        return mean.item(), std.item()

    def standardised(self, mean: float | None = None, std: float | None = None) -> "TensorSet":
        """Return a copy with images (images - mean) / std, where mean and std are scalars.

        Args:
            mean, std: default to the moments() of this set. For the test part, pass the moments() of the training part.
        Raises:
            ConfigError: if std is not positive and finite, for example because all pixels are equal.

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
                "Pass the moments() of a training part whose pixels are not all equal."
            )
        return dataclasses.replace(self, images=(self.images - mean).div_(std))

    def flat(self) -> "TensorSet":
        """Return a copy with each image flattened to one row, (N, C*H*W), for fully connected nets.

        >>> from thruway.data import load
        >>> load("digits").flat().images.shape
        torch.Size([1415, 64])
        """
        return dataclasses.replace(self, images=self.images.flatten(1))

    def to(self, device: torch.device | str) -> "TensorSet":
        """Return a copy on another device."""
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels at `indices`, a tensor on any device, such as a batch from `batches()`."""
        indices = indices.to(self.labels.device)
        return self.images[indices], self.labels[indices]
