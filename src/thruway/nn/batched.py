"""Whether a gradient is a batch of gradients, as torch's vectorised Jacobians pass them backwards."""

import torch
from torch import Tensor

__all__ = ["is_batched"]


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
