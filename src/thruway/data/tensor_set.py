"""An in-memory data set with all images and labels as tensors on one device. Its batches are drawn in a seeded order.

The data sets of the papers fit into memory, and one copy at the start is cheaper than data-loading workers. The batches
of an epoch are a function of (seed, epoch, step): resuming in the middle of an epoch needs only these three numbers and
no replay.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.errors import ConfigError, DatasetError
from thruway.seeding import generator

__all__ = ["TensorSet", "batches", "permutation", "steps_per_epoch"]


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


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """Return the order of `n` items in one epoch: int64, (n,), on the CPU.

    It depends only on the arguments, not on the device, earlier epochs or the global generator.

    Raises:
        ConfigError: if n or epoch is negative.

    >>> permutation(0, 3, 5).sort().values.tolist()
    [0, 1, 2, 3, 4]
    """
    if n < 0 or epoch < 0:
        raise ConfigError(f"epoch and n must be at least 0, got epoch={epoch}, n={n}.")
    return torch.randperm(n, generator=generator(seed, "data", "order", epoch))


def steps_per_epoch(n: int, batch_size: int, drop_last: bool = True) -> int:
    """Return the number of batches in an epoch over `n` items.

    Raises:
        ConfigError: if the batch size is not positive, or the epoch would be empty.

    >>> steps_per_epoch(1415, 100), steps_per_epoch(1415, 100, drop_last=False)
    (14, 15)
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}.")
    steps = n // batch_size if drop_last else -(-n // batch_size)
    if steps < 1:
        raise ConfigError(
            f"{n} items do not fill one batch of {batch_size}. Use a batch_size of at most {max(n, 1)}"
            + (", or drop_last=False." if n > 0 else ", and a data set that is not empty.")
        )
    return steps


def batches(
    n: int, batch_size: int, seed: int, epoch: int, start_step: int = 0, *, drop_last: bool = True
) -> Iterator[Tensor]:
    """Return an iterator over the index batches of one epoch, starting at `start_step`.

    Args:
        n: number of items in the data set.
        batch_size: number of items in a batch.
        seed, epoch: determine the order.
        start_step: number of batches of this epoch to skip, because they were already used.
        drop_last: if True, drop the last batch if it is smaller than `batch_size`.
    Returns:
        An iterator over int64 tensors, (batch_size,), on the CPU.
    Raises:
        ConfigError: if `start_step` or `batch_size` is out of range; raised immediately, not at the first batch.

    >>> [len(batch) for batch in batches(10, 4, seed=0, epoch=0, drop_last=False)]
    [4, 4, 2]
    >>> whole = list(batches(10, 4, seed=0, epoch=7))
    >>> torch.equal(next(batches(10, 4, seed=0, epoch=7, start_step=1)), whole[1])
    True
    """
    steps = steps_per_epoch(n, batch_size, drop_last)
    if not 0 <= start_step <= steps:
        raise ConfigError(f"start_step must be from 0 to {steps}, the number of batches, got {start_step}.")
    order = permutation(seed, epoch, n)
    return (order[step * batch_size : (step + 1) * batch_size] for step in range(start_step, steps))
