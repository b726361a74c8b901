"""Arena of activation memory that is reused from step to step."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

__all__ = ["Arena", "empty"]


class Arena:
    """Reusable memory for the activations of a training step.

    The activations of a population are tens of megabytes. If they are freed after each step, the next step takes a
    page fault per 4 KB, which costs as much time as the arithmetic. Inside `with arena.step():` the highway stack
    allocates from the arena. At the end of the block all of that memory is reused: keep only copies of the tensors
    that were computed inside.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[Any, ...], list[Tensor]] = {}
        self._taken: dict[tuple[Any, ...], int] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """Context of one forward and backward pass, which allocates from this arena."""
        self._taken.clear()
        token = _ARENA.set(self)
        try:
            yield
        finally:
            _ARENA.reset(token)

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return an uninitialised tensor of this shape that was not yet returned in this step."""
        key = (shape, like.dtype, like.device)
        blocks, n = self._blocks.setdefault(key, []), self._taken.get(key, 0)
        self._taken[key] = n + 1
        if n == len(blocks):
            blocks.append(like.new_empty(shape))
        # A new alias without the autograd metadata of the previous step.
        return blocks[n].detach()


_ARENA: ContextVar[Arena | None] = ContextVar("arena", default=None)


def empty(like: Tensor, *shape: int) -> Tensor:
    """Return an uninitialised tensor: from the arena of the current step, or newly allocated outside a step."""
    arena = _ARENA.get()
    return like.new_empty(shape) if arena is None else arena.take(like, shape)
