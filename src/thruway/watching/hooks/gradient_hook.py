"""Hearing the gradient with respect to a tensor, at the lowest price torch offers."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["tap"]


def tap(
    tensor: Tensor, node: Any, hear: Callable[[Tensor], None], key: int
) -> "OrderedDict[int, Callable[[Tensor], None]]":
    """Call `hear(gradient)` when the backward pass reaches `tensor`, which must not be a leaf.

    The hook belongs to the tensor as it is now: what overwrites it later (ReLU(inplace=True), x += skip) has a
    gradient of its own, and this one stays right.

    Args:
        node: its grad_fn, which costs something to ask for.
        key: one listener's own, below 0: torch numbers its handles from 0 on.
    Returns:
        The tensor's hooks; deleting `key` from them ends it.
    """
    hooks: OrderedDict[int, Callable[[Tensor], None]] | None = tensor._backward_hooks  # type: ignore[assignment]
    if hooks is None:
        # What Tensor.register_hook does, less the handle, which costs more than all the rest.
        hooks = OrderedDict()
        tensor._backward_hooks = hooks  # type: ignore[assignment]
        node._register_hook_dict(tensor)
    hooks[key] = hear
    return hooks
