"""Queries of PyTorch's internal state: autocast, batched gradients, recomputation in a backward pass."""

import torch
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["check_not_recomputing", "is_autocast", "is_batched"]


def is_autocast(x: Tensor) -> bool:
    """Return True if autocast is enabled for the device of x; False on devices without autocast, such as "meta".

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     is_autocast(torch.ones(1)), is_autocast(torch.ones(1, device="meta"))
    (True, False)
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def is_batched(gradient: Tensor) -> bool:
    """Return True if vmap hides a dimension of this gradient. Writing with `out=` fails then.

    torch.func.vmap has one kind of batched tensors, torch.autograd.grad(..., is_grads_batched=True) an older one.

    >>> found = []
    >>> x = torch.ones(2, requires_grad=True)
    >>> handle = x.register_hook(lambda gradient: found.append(is_batched(gradient)))
    >>> for g, more in ((torch.ones(2), False), (torch.eye(2), True)):
    ...     _ = torch.autograd.grad(2 * x, x, g, is_grads_batched=more)
    >>> found
    [False, True]
    """
    kinds = torch._C._functorch
    return kinds.is_batchedtensor(gradient) or kinds.is_legacy_batchedtensor(gradient)


def check_not_recomputing(block: str, argument: str) -> None:
    """Raise an error if a block is about to draw from its own generator during a backward pass.

    torch.utils.checkpoint restores torch's global generators before it recomputes a part of the network, but no
    other generators. The second pass would draw other random numbers, and the gradients would be wrong.

    Raises:
        ConfigError: during a backward pass.

    >>> check_not_recomputing("Dropout", "generator")  # in a forward pass
    """
    if torch._C._current_graph_task_id() != -1:
        raise ConfigError(
            f"{block} draws from its own generator and was called in training during a backward pass, as "
            "torch.utils.checkpoint does to recompute a part of the network. A checkpoint restores only torch's global "
            "generators, so this layer would draw other random numbers than before, and the gradients would be wrong. "
            f"Keep the layer out of the checkpoint, or build it without {argument}= to use torch's global generator."
        )
