"""Activation memory that is kept between steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

__all__ = ["Arena", "empty"]


class Arena:
    """Memory that outlives a step, for a training loop that knows when its graphs are dead.

    A population's activations are tens of megabytes; handed back to the system after each step they cost
    a page fault per 4 KB in the next, as much time as the arithmetic. Inside `with arena.step():` the
    stack takes its memory from here, and all of it is free again when the block ends: keep nothing
    that was computed inside, except copies.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[Any, ...], list[Tensor]] = {}
        self._taken: dict[tuple[Any, ...], int] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """One forward and backward pass."""
        self._taken.clear()
        token = _ARENA.set(self)
        try:
            yield
        finally:
            _ARENA.reset(token)

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised memory of this shape that nobody else was given in this step."""
        key = (shape, like.dtype, like.device)
        blocks, n = self._blocks.setdefault(key, []), self._taken.get(key, 0)
        self._taken[key] = n + 1
        if n == len(blocks):
            blocks.append(like.new_empty(shape))
        # An alias: the autograd engine must not find its own marks of the last step on it.
        return blocks[n].detach()


_ARENA: ContextVar[Arena | None] = ContextVar("arena", default=None)


def empty(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised memory of this shape: from the arena whose step is running, else fresh."""
    arena = _ARENA.get()
    return like.new_empty(shape) if arena is None else arena.take(like, shape)
