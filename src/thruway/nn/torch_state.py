"""Queries of PyTorch's internal state: autocast, batched gradients, a running backward pass."""

import torch
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["check_not_recomputing", "is_autocast", "is_batched"]


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of x; no on devices that have none, such as "meta".

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     is_autocast(torch.ones(1)), is_autocast(torch.ones(1, device="meta"))
    (True, False)
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def is_batched(gradient: Tensor) -> bool:
    """Whether vmap hides an axis of this gradient; what is written into given memory does not work then.

    torch.func.vmap has one kind of such tensors, torch.autograd.grad(..., is_grads_batched=True) an older one.

    >>> heard = []
    >>> x = torch.ones(2, requires_grad=True)
    >>> handle = x.register_hook(lambda gradient: heard.append(is_batched(gradient)))
    >>> for g, more in ((torch.ones(2), False), (torch.eye(2), True)):
    ...     _ = torch.autograd.grad(2 * x, x, g, is_grads_batched=more)
    >>> heard
    [False, True]
    """
    kinds = torch._C._functorch
    return kinds.is_batchedtensor(gradient) or kinds.is_legacy_batchedtensor(gradient)


def check_not_recomputing(block: str, argument: str) -> None:
    """Refuse to draw from a block's own generator while gradients are being computed.

    A checkpoint puts torch's global generators back before it computes a part of the net again. It does not know
    of others, from which the second pass would draw other coins, and the gradients would be those of another net.

    Raises:
        ConfigError: within a backward pass.

    >>> check_not_recomputing("Dropout", "generator")  # in a forward pass
    """
    if torch._C._current_graph_task_id() != -1:
        raise ConfigError(
            f"{block} draws from a generator of its own and was called in training within a backward pass, as "
            "torch.utils.checkpoint does to compute a part of the net again. It puts back torch's global generators "
            "only, so other coins would fall here than in the first pass, and the gradients would be wrong. Leave "
            f"this layer out of the checkpoint, or give it no {argument}: then torch's global one is used."
        )
