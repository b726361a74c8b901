"""Reuse of memory between training steps: an arena for activations, and settings of the allocator of the C library."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from thruway.nn.stack_autograd import ALLOCATOR

__all__ = ["Arena", "keep_freed_memory"]

# Parameters of glibc's mallopt with their largest values: blocks up to 1 GB come from the heap, which is not trimmed.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SETTINGS = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1}


class Arena:
    """Reusable memory for the activations of a training step.

    The activations of a population take tens of megabytes. If they are freed after each step, the next step takes a
    page fault per 4 KB, which costs as much time as the arithmetic. Inside `with arena.step():` the highway stack
    allocates from the arena. At the end of the block all of this memory becomes reusable, so copy the tensors computed
    inside that are needed later.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[Any, ...], list[Tensor]] = {}
        self._taken: dict[tuple[Any, ...], int] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """Context manager for one forward and backward pass that allocates from this arena."""
        self._taken.clear()
        token = ALLOCATOR.set(self.take)
        try:
            yield
        finally:
            ALLOCATOR.reset(token)

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialised tensor of this shape, different from all others returned in this step."""
        key = (shape, like.dtype, like.device)
        blocks, n = self._blocks.setdefault(key, []), self._taken.get(key, 0)
        self._taken[key] = n + 1
        if n == len(blocks):
            blocks.append(like.new_empty(shape))
        # A new alias without the autograd metadata of the previous step.
        return blocks[n].detach()


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next training step. Returns False if the C library has no such
    setting.

    On a CPU, the tensors of one step are freed before the next step allocates the same amount. By default, glibc
    returns large blocks to the system in between, and the next step causes a page fault for every 4 KB. The cost
    differs between processes; benchmarks/results.md lists times of a convolutional highway layer with and without this
    setting.

    The process keeps the memory of its largest step. It does not change any results. Call the function once before
    training in your own programs; `thruway run` and `thruway dissect` call it. Only glibc on Linux is supported.

    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library or operating system
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.items()])
