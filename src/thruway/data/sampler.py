"""Stateless data order: the batches of an epoch as a function of (seed, epoch, step).

Resuming in the middle of an epoch needs only these three numbers and no replay.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from thruway.errors import ConfigError
from thruway.seeding import generator

__all__ = ["batches", "permutation", "steps_per_epoch"]


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
