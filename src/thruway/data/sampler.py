"""The order in which a net sees the data, as a function of (seed, epoch, step).

Nothing is remembered between steps, so resuming in the middle of an epoch needs three numbers and
no replay.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from thruway.errors import ConfigError
from thruway.seeding import generator

__all__ = ["batches", "permutation", "steps_per_epoch"]


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order of `n` items in one epoch: int64, (n,), on the CPU.

    Depends on its arguments alone, not on the device, on earlier epochs or on the global generator.

    Raises:
        ConfigError: if n or epoch is negative.

    >>> permutation(0, 3, 5).sort().values.tolist()
    [0, 1, 2, 3, 4]
    """
    if n < 0 or epoch < 0:
        raise ConfigError(f"an epoch has a number and a size, both 0 or more: got epoch={epoch}, n={n}.")
    return torch.randperm(n, generator=generator(seed, "data", "order", epoch))


def steps_per_epoch(n: int, batch_size: int, drop_last: bool = True) -> int:
    """How many batches an epoch over `n` items has.

    Raises:
        ConfigError: if the batch size is not positive, or the epoch would be empty.

    >>> steps_per_epoch(1415, 100), steps_per_epoch(1415, 100, drop_last=False)
    (14, 15)
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is a number of items: got {batch_size}, allowed: 1 or more.")
    steps = n // batch_size if drop_last else -(-n // batch_size)
    if steps < 1:
        raise ConfigError(
            f"{n} items do not fill one batch of {batch_size}. Use a batch_size of at most {max(n, 1)}"
            + (", or drop_last=False." if n > 0 else ", and data that is not empty.")
        )
    return steps


def batches(
    n: int, batch_size: int, seed: int, epoch: int, start_step: int = 0, *, drop_last: bool = True
) -> Iterator[Tensor]:
    """The index batches of one epoch, from `start_step` on.

    Args:
        n: items in the data set.
        batch_size: items in a batch.
        seed, epoch: together they fix the order.
        start_step: batches of this epoch that are already done.
        drop_last: leave out the last batch if it is short.
    Returns:
        An iterator over int64 tensors, (batch_size,), on the CPU.
    Raises:
        ConfigError: if there is no such batch; at once, not at the first step.

    >>> [len(batch) for batch in batches(10, 4, seed=0, epoch=0, drop_last=False)]
    [4, 4, 2]
    >>> whole = list(batches(10, 4, seed=0, epoch=7))
    >>> torch.equal(next(batches(10, 4, seed=0, epoch=7, start_step=1)), whole[1])
    True
    """
    steps = steps_per_epoch(n, batch_size, drop_last)
    if not 0 <= start_step <= steps:
        raise ConfigError(f"start_step counts the batches already done: got {start_step}, allowed: 0 to {steps}.")
    order = permutation(seed, epoch, n)
    return (order[step * batch_size : (step + 1) * batch_size] for step in range(start_step, steps))
